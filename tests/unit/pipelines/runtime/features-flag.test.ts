import { join } from "node:path";
import { expect, test } from "vitest";
import { readFeatures } from "../../../../pipelines/runtime/features-flag.js";
import { fileWith, temporaryFolder } from "../../models/datasets/csv-files.js";

const left = { name: "left", kind: "difference", of: ["attributes.limit", "amount"] };

test("names and files of features are one list, in their order", async () => {
  const file = fileWith(JSON.stringify({ features: ["hour", left] }), "features.json");
  expect(await readFeatures(["amount", file, "card_count_7d"])).toEqual(["amount", "hour", left, "card_count_7d"]);
});

test("a mistake in a file names the file and the path, a file that isn't there itself", async () => {
  const file = fileWith(JSON.stringify({ features: [{ ...left, of: ["amount"] }] }), "features.json");
  await expect(readFeatures([file])).rejects.toMatchObject({
    code: "bad_features",
    message: `${file}: features[0].of: it must have 2 operands`,
  });
  const missing = join(temporaryFolder(), "none.json");
  await expect(readFeatures([missing])).rejects.toMatchObject({
    code: "bad_features",
    message: expect.stringMatching(/none\.json: it can't be read: ENOENT/) as string,
  });
});
