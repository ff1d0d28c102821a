import { expect, test } from "vitest";
import { badFieldsOfLabel } from "../../../../api/predictions/label-input.js";

const LABEL = { transaction_id: "t", card_id: "c" };
/** 256 and 258 bytes of UTF-8. */
const [LONGEST, LONG] = ["é".repeat(128), "é".repeat(129)];

test("ids have at most 256 bytes, whatever their characters", () => {
  const ids = [LONGEST, "x".repeat(256), "𝄞".repeat(64)];
  for (const id of ids) expect(badFieldsOfLabel({ transaction_id: id, card_id: id }, "")).toEqual([]);
  for (const id of [LONG, "x".repeat(257), "𝄞".repeat(65)]) {
    for (const field of ["transaction_id", "card_id"]) {
      const bad = { in: "body", field: `label.${field}`, code: "value", message: "is longer than 256 bytes" };
      expect(badFieldsOfLabel({ ...LABEL, [field]: id }, "label."), field).toEqual([bad]);
    }
  }
  expect(badFieldsOfLabel({ transaction_id: LONG }, "[3].").map(({ field }) => field)).toEqual(["[3].transaction_id"]);
});

test("times must exist and fit into the table of labels", () => {
  const none = [
    "2016-12-31T23:59:60Z",
    "2026-02-29T00:00:00Z",
    "1969-12-31T23:59:59.999Z",
    "2300-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
  ];
  for (const label_time of none) {
    expect(badFieldsOfLabel({ ...LABEL, label_time }, ""), label_time).toMatchObject([
      { field: "label_time", code: "value" },
    ]);
  }
  for (const label_time of ["1970-01-01T00:00:00Z", "2299-12-31T00:00:00Z"])
    expect(badFieldsOfLabel({ ...LABEL, label_time }, "")).toEqual([]);
});
