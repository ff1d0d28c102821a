import avsc from "avsc";
import { describe, expect, test } from "vitest";
import type { AvroObject } from "../../../schemas/avro-cursor.js";
import { TransactionRejected } from "../../../schemas/transaction-rejected.js";
import { RandomSource } from "../../support/random-source.js";
import { EVENT_TIME, collector, wired, type Collected } from "./collected.js";
import { RandomTypes, type RandomType } from "./random-avro.js";

/** A writer's schema in an order of its own, with further fields of every kind, and records of it. */
function randomWriter(seed: number): { schema: AvroObject; record: () => { bytes: Buffer; expected: Collected } } {
  const random = new RandomSource(seed);
  const types = new RandomTypes(random);
  const namespace = random.pick(["", "acme", "com.acme.payments"]);
  const further = new Map<string, RandomType>(
    Array.from({ length: random.int(12) }, (_, i) => [`x${i}`, types.any(namespace)]),
  );
  const required = new Map<string, AvroObject["type"]>([
    ["transaction_id", random.pick(["string", ["null", "string"], ["string", "null"]])],
    ["card_id", { type: "string" }],
    ["merchant_id", "string"],
    ["currency", "string"],
    [
      "event_time",
      random.pick([
        "long",
        { type: "long", logicalType: "timestamp-millis" },
        ["null", { type: "long", logicalType: "timestamp-micros" }],
        { type: "long", logicalType: "timestamp-micros" },
      ]),
    ],
    ["amount", random.pick(["double", "float", "long", "int", ["double", "null"]])],
  ]);
  // The further fields stay in their order, since a type must be defined before it is referred to.
  const names = [...further.keys()];
  for (const name of required.keys()) names.splice(random.int(names.length + 1), 0, name);
  const schema: AvroObject = {
    type: "record",
    name: "Payment",
    ...(namespace === "" ? {} : { namespace }),
    fields: names.map((name) => ({ name, type: required.get(name) ?? (further.get(name) as RandomType).schema })),
  };
  const type = avsc.Type.forSchema(schema as avsc.Schema, { wrapUnions: true });
  const inMicros = JSON.stringify(required.get("event_time")).includes("micros");
  const wrapped = (name: string, branch: string, value: unknown): unknown =>
    Array.isArray(required.get(name)) ? { [branch]: value } : value;
  return {
    schema,
    record: () => {
      const id = `t${random.int(1e6)}-ü`;
      const amount = random.int(1000);
      const eventTime = EVENT_TIME - random.int(1e9);
      const avro: Record<string, unknown> = {
        transaction_id: wrapped("transaction_id", "string", id),
        card_id: "c",
        merchant_id: "m".repeat(1 + random.int(100)),
        currency: random.pick(["EUR", "USD", "XCG"]),
        event_time: wrapped("event_time", "long", inMicros ? eventTime * 1000 + random.int(1000) : eventTime),
        amount: wrapped("amount", "double", amount),
      };
      const attributes: Collected["attributes"] = new Map();
      for (const [name, of] of further) {
        const { avro: value, attribute } = of.value();
        avro[name] = value;
        if (attribute !== undefined) attributes.set(name, attribute);
      }
      const expected = {
        transactionId: id,
        cardId: "c",
        merchantId: avro["merchant_id"] as string,
        currency: avro["currency"] as string,
        eventTime,
        amount,
        attributes,
      };
      return { bytes: wired(type.toBuffer(avro)), expected };
    },
  };
}

/** The value among neighbours whose bytes would be taken for its own by a reader that goes too far. */
function among(random: RandomSource, value: Buffer): { bytes: Buffer; at: number } {
  const before = random.bytes(random.int(20));
  return { bytes: Buffer.concat([before, value, random.bytes(40)]), at: before.length };
}

/** What was read, or the code of its rejection; any other error is the test's. */
function outcome(read: () => Collected): Collected | string {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof TransactionRejected)) throw error;
    return error.code;
  }
}

describe("against avsc", () => {
  test("reads random records of random schemas, and only the attributes that are wanted", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = new RandomSource(seed);
      const { schema, record } = randomWriter(seed);
      const all = collector(schema);
      const some = collector(schema, (name) => name === "x0" || name === "x3");
      for (let i = 0; i < 4; i++) {
        const { bytes, expected } = record();
        const { bytes: surrounded, at } = among(random, bytes);
        expect(all(surrounded, at, bytes.length), `seed ${seed}`).toEqual(expected);
        const wanted = new Map([...expected.attributes].filter(([name]) => name === "x0" || name === "x3"));
        expect(some(surrounded, at, bytes.length).attributes, `seed ${seed}`).toEqual(wanted);
      }
    }
  });

  test("a value cut off at any byte is rejected", () => {
    for (let seed = 1_000; seed < 1_015; seed++) {
      const random = new RandomSource(seed);
      const { schema, record } = randomWriter(seed);
      const reads = [collector(schema), collector(schema, () => false)];
      const { bytes } = record();
      for (let length = 0; length < bytes.length; length++) {
        const { bytes: surrounded, at } = among(random, bytes.subarray(0, length));
        for (const read of reads) {
          if (typeof outcome(() => read(surrounded, at, length)) !== "string")
            expect.fail(`seed ${seed}: ${length} of ${bytes.length} bytes were accepted`);
        }
      }
    }
  });

  test("what is made of changed bytes does not depend on the bytes around them", () => {
    const accepted = { count: 0 };
    for (let seed = 2_000; seed < 2_080; seed++) {
      const random = new RandomSource(seed);
      const { schema, record } = randomWriter(seed);
      const read = collector(schema);
      const { bytes } = record();
      for (let i = 0; i < 100; i++) {
        const changed = Buffer.from(bytes);
        for (let n = 1 + random.int(3); n > 0; n--)
          changed[5 + random.int(changed.length - 5)] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.int(256)]);
        const alone = outcome(() => read(changed));
        const { bytes: surrounded, at } = among(random, changed);
        expect(
          outcome(() => read(surrounded, at, changed.length)),
          `seed ${seed}`,
        ).toEqual(alone);
        if (typeof alone !== "string") accepted.count++;
      }
    }
    // Changes within a number or a text are read as such; a reader that rejected everything would not be tested.
    expect(accepted.count).toBeGreaterThan(1_500);
  });
});
