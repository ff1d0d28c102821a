import { expect, test } from "vitest";
import { UnreadableAttributes } from "../../../../pipelines/scoring/unreadable-attributes.js";

test("distinguishes attributes that can't be read from fields missing where the settings expect them", () => {
  const raised: string[] = [];
  const conditions = {
    raise: (_code: string, _subject: string, message: string) => void raised.push(message),
    clear: () => undefined,
  };
  const attributes = new UnreadableAttributes(
    conditions as unknown as ConstructorParameters<typeof UnreadableAttributes>[0],
  );
  attributes.learnt(1, 7, [{ attribute: "risk", type: "array" }]);
  attributes.learnt(1, 8, [
    { attribute: "amount", type: "absent in the records: amount (totl: did you mean total?)", ofOurs: true },
  ]);
  expect(raised).toEqual([
    "schema 7 has attributes that the deployed models ask for and that can't be read, so they count as " +
      'absent: "risk" (array); producers can write them as a number, string, boolean, enum or decimal',
    "schema 8 lacks fields that TRANSACTIONS_FIELDS names, so what has our own name is read instead: " +
      '"amount" (absent in the records: amount (totl: did you mean total?)); correct the setting',
  ]);
  expect(attributes.problems).toEqual(raised);
});
