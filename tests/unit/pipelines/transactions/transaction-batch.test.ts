import { describe, expect, it } from "vitest";
import type { AttributeSlot } from "../../../../models/features/attribute-slots.js";
import { TransactionBatch } from "../../../../pipelines/transactions/transaction-batch.js";
import { TransactionFields } from "../../../../schemas/transaction-reader.js";
import { TransactionRejected } from "../../../../schemas/transaction-rejected.js";
import { transaction, transactionReader, wireValue } from "../../../support/transactions.js";

type Attributes = Record<string, number | string | boolean>;

/**
 * A batch and a function that reads transactions with such attributes into it; the rejection's code where there is one.
 */
function filling(
  slots: AttributeSlot[],
  capacity = 8,
): { batch: TransactionBatch; give: (attributes: Attributes) => string } {
  const batch = new TransactionBatch(slots);
  const reader = transactionReader(batch);
  const fields = new TransactionFields();
  batch.reset(capacity);
  const give = (attributes: Attributes): string => {
    const value = wireValue(transaction(1, { attributes }));
    try {
      reader.read(value, 0, value.length, Date.now(), fields);
      batch.add(fields, batch.length);
      return "taken";
    } catch (error) {
      batch.discardRow();
      if (error instanceof TransactionRejected) return error.code;
      throw error;
    }
  };
  return { batch, give };
}

const slotsIn = (batch: TransactionBatch): number[] => [...batch.slots.subarray(0, batch.length * batch.slotCount)];

describe("TransactionBatch", () => {
  it("keeps numbers, booleans and texts in their slots, and NaN if there is none", () => {
    const { batch, give } = filling([
      { attribute: "n", type: "number" },
      { attribute: "b", type: "boolean" },
      { attribute: "t", type: "boolean", equals: "web" },
      { attribute: "t", type: "boolean", equals: "shop" },
    ]);
    expect([
      give({ n: 1.5, b: true, t: "shop", other: "stepped over" }),
      give({}),
      give({ n: -0, b: false, t: "we" }),
      give({ t: "webs" }),
    ]).toEqual(Array(4).fill("taken"));
    expect(slotsIn(batch)).toEqual([1.5, 1, 0, 1, NaN, NaN, NaN, NaN, -0, 0, 0, 0, NaN, NaN, 0, 0]);
  });

  it("keeps numbers as they were sent: a cent of ten millions is not lost", () => {
    const { batch, give } = filling([{ attribute: "n", type: "number" }]);
    give({ n: 10_000_000.01 });
    expect(slotsIn(batch)).toEqual([10_000_000.01]);
  });

  it("reads dates of texts and numbers, and numbers for both", () => {
    const { batch, give } = filling([
      { attribute: "d", type: "time" },
      { attribute: "d", type: "number" },
    ]);
    const born = Date.UTC(1988, 2, 9);
    const given = [{ d: "1988-03-09" }, { d: born }, { d: 6_642 }, { d: "soon" }, {}, { d: true }];
    expect(given.map(give)).toEqual([...Array<string>(5).fill("taken"), "wrong_attribute_type"]);
    expect(slotsIn(batch)).toEqual([born, NaN, born, born, born, 6_642, NaN, NaN, NaN, NaN]);
  });

  it("compares parts of texts, of attributes and of the transaction's own fields", () => {
    const { batch, give } = filling([
      { attribute: "mail", type: "boolean", part: "email_domain", equals: "x.org" },
      { attribute: "mail", type: "boolean", part: "email_domain", equals: "y.org" },
      { attribute: "mail", type: "boolean", equals: "a@x.org" },
      { attribute: "merchant_id", type: "boolean", part: "email_domain", equals: "x.org", field: true },
    ]);
    expect([give({ mail: "b@X.org" }), give({ mail: "a@x.org" }), give({ mail: "none" }), give({})]).toEqual(
      Array(4).fill("taken"),
    );
    const own = NaN;
    expect(slotsIn(batch)).toEqual([1, 0, 0, own, 1, 0, 1, own, NaN, NaN, 0, own, NaN, NaN, NaN, own]);
    expect(give({ mail: 1 })).toBe("wrong_attribute_type");
  });

  it("compares texts by their bytes", () => {
    const { batch, give } = filling([
      { attribute: "t", type: "boolean", equals: "größe" },
      { attribute: "t", type: "boolean", equals: "" },
    ]);
    give({ t: "größe" });
    give({ t: "gro\u0308ße" });
    give({ t: "" });
    expect(slotsIn(batch)).toEqual([1, 0, 0, 0, 0, 1]);
  });

  it("rejects the wrong type, and accepts both types of an attribute that has two", () => {
    const { batch, give } = filling([
      { attribute: "n", type: "number" },
      { attribute: "t", type: "boolean", equals: "x" },
      { attribute: "both", type: "number" },
      { attribute: "both", type: "boolean" },
    ]);
    expect(give({ n: "1" })).toBe("wrong_attribute_type");
    expect(give({ n: true })).toBe("wrong_attribute_type");
    expect(give({ t: 1 })).toBe("wrong_attribute_type");
    expect(give({ both: "x" })).toBe("wrong_attribute_type");
    expect([give({ both: 2 }), give({ both: true })]).toEqual(["taken", "taken"]);
    expect(slotsIn(batch)).toEqual([NaN, NaN, 2, NaN, NaN, NaN, NaN, 1]);
  });

  it("leaves nothing of a rejected row in the next one", () => {
    const { batch, give } = filling([
      { attribute: "a", type: "number" },
      { attribute: "z", type: "number" },
    ]);
    expect(give({ a: 7, z: "wrong" })).toBe("wrong_attribute_type");
    expect(give({ z: 1 })).toBe("taken");
    expect(slotsIn(batch)).toEqual([NaN, 1]);
  });

  it("rejects what a float32 can't hold, and accepts NaN for an absent number", () => {
    const { batch, give } = filling([{ attribute: "n", type: "number" }]);
    const largest = 3.4028234663852886e38;
    expect([largest, -largest, NaN].map((n) => give({ n }))).toEqual(["taken", "taken", "taken"]);
    expect([3.5e38, -3.5e38, Infinity, -Infinity, Number.MAX_VALUE].map((n) => give({ n }))).toEqual(
      Array(5).fill("bad_attribute"),
    );
    expect(slotsIn(batch)).toEqual([largest, -largest, NaN]);
  });

  it("grows for a larger batch and is empty after a reset", () => {
    const { batch, give } = filling([{ attribute: "n", type: "number" }], 1);
    give({ n: 1 });
    batch.reset(1_000);
    expect(batch.length).toBe(0);
    for (let n = 0; n < 1_000; n++) give({ n });
    expect(slotsIn(batch)).toEqual(Array.from({ length: 1_000 }, (_, n) => n));
    batch.reset(3);
    give({});
    expect(slotsIn(batch)).toEqual([NaN]);
  });

  it("holds rows of models that read no attribute", () => {
    const { batch, give } = filling([]);
    expect(give({ n: "anything" })).toBe("taken");
    expect([batch.length, batch.slots.length]).toEqual([1, 0]);
  });
});
