import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { CARD_AGGREGATES, CARD_AGGREGATE_NAMES } from "../../../../models/features/card-aggregates.js";

const readme = readFileSync(new URL("../../../../models/features/README.md", import.meta.url), "utf8").replace(
  /\s+/g,
  " ",
);

test.each(CARD_AGGREGATE_NAMES)("the features' page says what %s is", (name) => {
  const { formula, first } = CARD_AGGREGATES[name];
  expect(readme).toContain(`\`card_${name}_w\`; _value:_ ${formula}; _without history:_ ${first}`);
});
