import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Kafka } from "kafkajs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { transactionSchema, type Transaction } from "../../schemas/generated.js";
import { MAX_TRANSACTION_BYTES } from "../../schemas/topics.js";
import {
  CODECS,
  pack,
  packedBatch,
  publishBatch,
  recordPieces,
  type BombRecord,
  type Codec,
} from "../support/bombs.js";
import { kafkaConfig, uniquePrefix } from "../support/engines.js";
import { eventually } from "../support/eventually.js";
import { amountFeature, numberFeature, sigmoidOf, weighted } from "../support/models.js";
import { cardIn, transaction as anyTransaction, transactionRecord, wireValue } from "../support/transactions.js";
import { GZIP, kafkaJs } from "../support/workers-kafkajs.js";
import { TestSystem, type ReadPrediction, type ReadRecord } from "../support/workers-system.js";
import type { RoleProcess } from "../support/workers.js";

/** Writer schemas of producers: one older than ours, a flat one, one whose records nest in themselves. */
const OLDER = 2_001,
  FLAT = 2_002,
  NESTED = 2_003,
  CHANGES = 2_004,
  JSON_SCHEMA = 2_005,
  PROTO = 2_006;
const fieldsOf = (names: string[]): object[] => transactionSchema.fields.filter(({ name }) => names.includes(name));
const core = fieldsOf(["transaction_id", "event_time", "card_id", "merchant_id", "amount", "currency"]);
const schemas: Record<number, object> = {
  [OLDER]: { type: "record", name: "Payment", fields: [...core].reverse() },
  [FLAT]: {
    type: "record",
    name: "Flat",
    namespace: "bank",
    fields: [
      ...core,
      { name: "risk", type: "double" },
      { name: "web", type: "boolean" },
      { name: "note", type: ["null", "string"] },
      {
        name: "extra",
        type: { type: "array", items: { type: "record", name: "Item", fields: [{ name: "x", type: "long" }] } },
      },
    ],
  },
  [NESTED]: {
    type: "record",
    name: "Nested",
    fields: [
      ...core,
      {
        name: "chain",
        type: ["null", { type: "record", name: "Link", fields: [{ name: "next", type: ["null", "Link"] }] }],
      },
    ],
  },
};

const DECIMAL = { type: "bytes", logicalType: "decimal", precision: 12, scale: 2 };
const ROW = {
  type: "record",
  name: "Row",
  namespace: "bank",
  fields: [
    { name: "id", type: "long" },
    { name: "pan", type: "string" },
    { name: "merchant_id", type: "string" },
    { name: "amount", type: DECIMAL },
    { name: "risk", type: ["null", DECIMAL] },
    { name: "currency", type: { type: "enum", name: "Currency", symbols: ["USD", "EUR"] } },
    { name: "created_at", type: { type: "long", "connect.name": "io.debezium.time.MicroTimestamp" } },
  ],
};
schemas[CHANGES] = {
  type: "record",
  name: "Envelope",
  namespace: "bank",
  fields: [
    { name: "before", type: ["null", ROW] },
    { name: "after", type: ["null", "Row"] },
    { name: "op", type: "string" },
  ],
};
const PROTO_FILE =
  'syntax = "proto3"; message Payment { string transaction_id = 1; int64 event_time = 2; string card_id = 3; ' +
  "string merchant_id = 4; double amount = 5; string currency = 6; optional bytes risk = 7; }";
const SETTINGS = {
  TRANSACTIONS_ENVELOPE: "after",
  TRANSACTIONS_FIELDS: "transaction_id=id,card_id=pan,event_time=created_at",
};

let system: TestSystem;
let worker: RoleProcess;
let schemasDir: string;
let kafka: Kafka;
let epoch: number;

beforeAll(async () => {
  schemasDir = await mkdtemp(join(tmpdir(), "fraudstream-schemas-"));
  for (const [id, schema] of Object.entries(schemas))
    await writeFile(join(schemasDir, `${id}.avsc`), JSON.stringify(schema));
  await writeFile(
    join(schemasDir, `${JSON_SCHEMA}.json`),
    JSON.stringify({
      properties: { amount: { title: "org.apache.kafka.connect.data.Decimal", "connect.parameters": { scale: "1" } } },
    }),
  );
  await writeFile(join(schemasDir, `${PROTO}.proto`), PROTO_FILE);
  system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix() });
  kafka = kafkaJs(system.kafka);
  await system.register("cards@1", weighted([amountFeature, numberFeature("risk", 0)], [0.01, 1]));
  epoch = await system.deploy("cards@1");
  worker = system.startWorker({ SCHEMAS_DIR: schemasDir });
});

afterAll(async () => {
  await system.close();
  await rm(schemasDir, { recursive: true });
});

/** Publishes one batch and returns what became of it, by the offset in it. */
async function score(
  records: OutgoingRecord[],
  partition = 0,
): Promise<{ first: number; predictions: Map<number, ReadPrediction>; letters: Map<number, ReadRecord> }> {
  const first = await system.publishTo(partition, records);
  await system.consumed();
  return { first, ...(await outcome(partition, first)) };
}

async function outcome(
  partition: number,
  first: number,
): Promise<{ predictions: Map<number, ReadPrediction>; letters: Map<number, ReadRecord> }> {
  const predictions = (await system.predictions()).filter(
    ({ prediction }) => prediction.source_partition === partition && prediction.source_offset >= first,
  );
  const letters = (await system.deadLetters()).filter(
    ({ headers }) => headers["partition"] === String(partition) && Number(headers["offset"]) >= first,
  );
  const found = {
    predictions: new Map(predictions.map((record) => [record.prediction.source_offset - first, record])),
    letters: new Map(letters.map((record) => [Number(record.headers["offset"]) - first, record])),
  };
  // A map would hide that something is there twice.
  expect([found.predictions.size, found.letters.size]).toEqual([predictions.length, letters.length]);
  return found;
}

/** A transaction whose card belongs to partition 0. Each test has numbers, hence ids, of its own. */
const transaction = (n: number, changed: Partial<Transaction> = {}): Transaction =>
  anyTransaction(n, { card_id: cardIn(0, 2, n), ...changed });
const raw = (value: Buffer | string | null, key: string | null = "k"): OutgoingRecord => ({
  key: key === null ? null : Buffer.from(key),
  value: typeof value === "string" ? Buffer.from(value) : value,
});
const avro = (changed: Partial<Transaction>): OutgoingRecord => raw(wireValue(transaction(1, changed)));
const json = (changed: object): string => JSON.stringify({ ...transaction(1), ...changed });
const fine = wireValue(transaction(1));
const invalidUtf8 = (() => {
  const value = wireValue(transaction(1, { card_id: "SPOILT" }));
  value[value.indexOf("SPOILT")] = 0xff;
  return value;
})();

const bad: [what: string, record: OutgoingRecord, code: string][] = [
  ["Avro cut off by a byte", raw(fine.subarray(0, -1)), "avro_truncated"],
  ["Avro cut off in an id", raw(fine.subarray(0, 7)), "avro_truncated"],
  ["Avro with a byte too many", raw(Buffer.concat([fine, Buffer.from([0])])), "avro_trailing"],
  ["nothing behind the schema id", raw(fine.subarray(0, 5)), "avro_truncated"],
  ["a schema id that is cut off", raw(fine.subarray(0, 3)), "unknown_format"],
  ["an unknown schema id", raw(wireValue(transaction(1), 999)), "unknown_schema"],
  ["a schema that isn't a transaction's", raw(wireValue(transaction(1), 1_000_003)), "schema_mismatch"],
  ["an empty value", raw(Buffer.alloc(0)), "empty_value"],
  ["no value", raw(null), "empty_value"],
  ["no value and no key", raw(null, null), "empty_value"],
  ["a text", raw("hello"), "unknown_format"],
  ["bytes without meaning", raw(Buffer.from([1, 2, 3, 255, 254])), "unknown_format"],
  ["an amount that is NaN", avro({ amount: Number.NaN }), "bad_amount"],
  ["an infinite amount", avro({ amount: Infinity }), "bad_amount"],
  ["a negative infinite amount", avro({ amount: -Infinity }), "bad_amount"],
  ["no transaction id", avro({ transaction_id: "" }), "missing_id"],
  ["no card id", avro({ card_id: "" }), "missing_id"],
  ["no merchant id", avro({ merchant_id: "" }), "missing_id"],
  ["an id of 257 bytes", avro({ card_id: "x".repeat(257) }), "long_id"],
  ["an id that isn't UTF-8", raw(invalidUtf8), "invalid_utf8"],
  ["the year 30,000", avro({ event_time: Date.UTC(30_000, 0, 1) }), "event_time_ahead"],
  ["ten minutes ahead", avro({ event_time: Date.now() + 600_000 }), "event_time_ahead"],
  ["the year 1999", avro({ event_time: Date.UTC(1999, 11, 31) }), "event_time_early"],
  ["an event time below zero", avro({ event_time: -1 }), "event_time_early"],
  ["a currency of four letters", avro({ currency: "EURO" }), "bad_currency"],
  ["a currency in small letters", avro({ currency: "eur" }), "bad_currency"],
  ["an attribute of the wrong type", avro({ attributes: { risk: "high" } }), "wrong_attribute_type"],
  ["an infinite attribute", avro({ attributes: { risk: Infinity } }), "bad_attribute"],
  ["JSON with a key twice", raw(json({}).replace("{", '{"amount":1,')), "json_duplicate_key"],
  [
    "JSON with an attribute twice",
    raw(json({}).replace('"attributes":{}', '"attributes":{"a":1,"\\u0061":2}')),
    "json_duplicate_key",
  ],
  ["JSON with an extra key", raw(json({ is_fraud: true })), "json_unknown_key"],
  ["JSON that is cut off", raw(json({}).slice(0, -1)), "json_invalid"],
  ["JSON with NaN", raw(json({}).replace(/"amount":\d+/, '"amount":NaN')), "json_invalid"],
  ["JSON with an amount beyond doubles", raw(json({}).replace(/"amount":\d+/, '"amount":1e999')), "bad_amount"],
  ["JSON with a text for an amount", raw(json({ amount: "12.50" })), "json_wrong_type"],
  ["JSON with a number for an id", raw(json({ card_id: 7 })), "json_wrong_type"],
  ["JSON with null for an id", raw(json({ card_id: null })), "missing_field"],
  ["JSON without an amount", raw(json({ amount: undefined })), "missing_field"],
  ["JSON with a local time", raw(json({ event_time: "2026-01-01T00:00:00" })), "json_wrong_type"],
  ["JSON with a list for attributes", raw(json({ attributes: [1] })), "json_wrong_type"],
  ["JSON with an attribute of its own kind", raw(json({ attributes: { risk: { deep: 1 } } })), "json_wrong_type"],
  [
    "JSON nested ten thousand deep",
    raw(json({ attributes: 0 }).replace('"attributes":0', `"attributes":${"[".repeat(10_000)}${"]".repeat(10_000)}`)),
    "json_wrong_type",
  ],
];

it("dead-letters every bad record with its bytes and cause, and scores its neighbours", async () => {
  const records = bad.flatMap(([, record], i) => [record, transactionRecord(transaction(i))]);
  const { first, predictions, letters } = await score(records);
  expect(bad.map(([what], i) => [what, letters.get(2 * i)?.headers["code"]])).toEqual(
    bad.map(([what, , code]) => [what, code]),
  );
  for (const [i, [what, record, code]] of bad.entries()) {
    const letter = letters.get(2 * i) as ReadRecord;
    expect([letter.key, letter.value, letter.partition], what).toEqual([record.key, record.value, 0]);
    expect(letter.headers, what).toEqual({
      code,
      reason: expect.stringMatching(/.{10}/) as string,
      step: "decode",
      topic: system.topics.transactions.name,
      partition: "0",
      offset: String(first + 2 * i),
      attempt: "1",
      "source-log": expect.stringContaining("topic_id") as string,
    });
    const neighbour = predictions.get(2 * i + 1);
    expect(neighbour?.partition).toBe(0);
    expect(neighbour?.key?.toString()).toBe(cardIn(0, 2, i));
    expect(neighbour?.prediction).toMatchObject({
      transaction_id: `t${i}`,
      amount: i % 100,
      epoch,
      model: "cards@1",
      source_topic: system.topics.transactions.name,
      source_partition: 0,
      features: [i % 100, 0],
      stale: false,
      reasons: null,
    });
    expect(neighbour?.prediction.score).toBeCloseTo(sigmoidOf(i % 100), 5);
  }
  expect([predictions.size, letters.size]).toEqual([bad.length, bad.length]);
  expect(worker.exit).toBeNull();
});

it("dead-letters an event time ahead of the worker's clock even if the record's time is as far ahead", async () => {
  const producer = kafka.producer();
  await producer.connect();
  // An hour ahead is what Kafka 4 lets pass.
  const times = [50, 6, 4, -1].map((minutes) => Date.now() + minutes * 60_000);
  const messages = times.map((time, i) => ({
    key: Buffer.from(cardIn(1, 2, i)),
    value: wireValue(anyTransaction(2_000 + i, { card_id: cardIn(1, 2, i), event_time: time })),
    timestamp: String(time),
    partition: 1,
  }));
  const [{ baseOffset }] = await producer.send({ topic: system.topics.transactions.name, messages });
  await producer.disconnect();
  await system.consumed();
  const { predictions, letters } = await outcome(1, Number(baseOffset));
  expect([...letters].map(([i, { headers }]) => [i, headers["code"]])).toEqual([
    [0, "event_time_ahead"],
    [1, "event_time_ahead"],
  ]);
  expect([...predictions.keys()]).toEqual([2, 3]);
});

describe("large records", () => {
  const padded = (bytes: number, changed: Partial<Transaction> = {}): Buffer => {
    const around = wireValue(transaction(1_001, { ...changed, attributes: { pad: "x".repeat(bytes) } })).length;
    return wireValue(transaction(1_001, { ...changed, attributes: { pad: "x".repeat(bytes - (around - bytes)) } }));
  };

  it("scores a transaction of 4 MB, and dead-letters a bad one of that size whole", async () => {
    const largest = padded(MAX_TRANSACTION_BYTES);
    expect(largest.length).toBe(MAX_TRANSACTION_BYTES);
    const good = await score([raw(largest)]);
    expect(good.predictions.get(0)?.prediction.transaction_id).toBe("t1001");
    const largestBad = padded(MAX_TRANSACTION_BYTES, { currency: "???" });
    const { letters } = await score([raw(largestBad)]);
    expect(letters.get(0)?.headers["code"]).toBe("bad_currency");
    expect(letters.get(0)?.value?.equals(largestBad)).toBe(true);
  });

  it("identifies larger values in a compressed batch by length and sha256, and scores their neighbours", async () => {
    const producer = kafka.producer();
    await producer.connect();
    const tooLarge = padded(MAX_TRANSACTION_BYTES + 1);
    const neighbour = (n: number): Buffer => wireValue(anyTransaction(n, { card_id: cardIn(1, 2, n) }));
    const longKey = Buffer.alloc(3_000_000, "k");
    const messages = [
      { key: Buffer.from("c1"), value: neighbour(1) },
      { key: Buffer.from("large"), value: tooLarge },
      { key: longKey, value: Buffer.from("bad") },
      { key: Buffer.from("c2"), value: neighbour(2) },
    ].map((message) => ({ ...message, partition: 1 }));
    const [{ baseOffset }] = await producer.send({
      topic: system.topics.transactions.name,
      compression: GZIP,
      messages,
    });
    await producer.disconnect();
    await system.consumed();
    const { predictions, letters } = await outcome(1, Number(baseOffset));
    expect([...predictions.keys()]).toEqual([0, 3]);
    const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
    expect([letters.get(1)?.key?.toString(), letters.get(1)?.value]).toEqual(["large", null]);
    expect(letters.get(1)?.headers).toMatchObject({
      code: "too_large",
      length: String(tooLarge.length),
      sha256: digest(tooLarge),
      partition: "1",
      offset: String(Number(baseOffset) + 1),
    });
    expect([letters.get(2)?.key, letters.get(2)?.value?.toString()]).toEqual([null, "bad"]);
    expect(letters.get(2)?.headers).toMatchObject({
      code: "unknown_format",
      "key-length": String(longKey.length),
      "key-sha256": digest(longKey),
    });
  });
});

it("copies a reply-to of up to 256 bytes to prediction and dead letter", async () => {
  const replyTo = [1, 256, 257].map((length) => "r".repeat(length));
  const good = replyTo.map((to, i) =>
    transactionRecord(transaction(3_000 + i), [
      ["other", "x"],
      ["reply-to", to],
    ]),
  );
  const spoilt = replyTo.map((to) => ({
    ...raw("bad"),
    headers: encodeHeaders([
      ["reply-to", to],
      ["attempt", "3"],
      ["fraudstream-redrive-of", `${system.topics.deadLetters.name}/0/1`],
    ]),
  }));
  const { predictions, letters } = await score([...good, ...spoilt]);
  expect([0, 1, 2].map((i) => predictions.get(i)?.headers)).toEqual([
    { "reply-to": replyTo[0] },
    { "reply-to": replyTo[1] },
    {},
  ]);
  expect([3, 4, 5].map((i) => letters.get(i)?.headers["reply-to"])).toEqual([replyTo[0], replyTo[1], undefined]);
  expect(letters.get(5)?.headers["attempt"]).toBe("3");
});

it("reads JSON, older writers and producers' own schemas", async () => {
  const nested = (depth: number): Buffer => {
    const shallow = wireValue({ ...transaction(4_007), chain: null }, NESTED, schemas[NESTED]);
    return Buffer.concat([shallow.subarray(0, -1), Buffer.alloc(depth, 2), Buffer.from([0])]);
  };
  const flat = { ...transaction(4_003), risk: 2, web: true, note: null, extra: [{ x: 1 }, { x: 2 }] };
  const { predictions, letters } = await score([
    raw(wireValue(transaction(4_001), OLDER, schemas[OLDER])),
    raw(wireValue(flat, FLAT, schemas[FLAT])),
    raw(wireValue({ ...flat, transaction_id: "other", risk: Number.NaN, note: "x" }, FLAT, schemas[FLAT])),
    raw(
      JSON.stringify({
        ...transaction(4_004),
        event_time: "2026-01-01T01:00:00.5+01:00",
        attributes: { risk: -1.5, other: "x", absent: null },
      }),
    ),
    raw(json({ transaction_id: "t4101", attributes: undefined })),
    raw(nested(3)),
    raw(nested(1_000_000)),
    raw(wireValue(flat, FLAT, schemas[FLAT]).subarray(0, -1)),
  ]);
  expect([...predictions.keys()]).toEqual([0, 1, 2, 3, 4, 5]);
  expect([0, 1, 2, 3, 4, 5].map((i) => predictions.get(i)?.prediction.features)).toEqual([
    [1, 0],
    [3, 2],
    [3, 0],
    [4, -1.5],
    [1, 0],
    [7, 0],
  ]);
  expect(predictions.get(3)?.prediction.event_time).toBe(Date.UTC(2026, 0, 1, 0, 0, 0, 500));
  expect([...letters.keys()]).toEqual([6, 7]);
  expect(letters.get(7)?.headers["code"]).toBe("avro_truncated");
});

it(
  "reads a change stream's rows, JSON Schema and Protocol Buffers, and says what the model asks for and " +
    "can't be read",
  async () => {
    await worker.stop();
    worker = system.startWorker({ SCHEMAS_DIR: schemasDir, ...SETTINGS });
    const { event_time, card_id, merchant_id } = transaction(5_000);
    const row = {
      id: 5_000,
      pan: card_id,
      merchant_id,
      amount: Buffer.from([0x04, 0xe2]),
      risk: Buffer.from([0x32]),
      currency: "EUR",
      created_at: event_time * 1_000 + 7,
    };
    const change = (after: object | null): Buffer =>
      wireValue({ before: null, after, op: after ? "c" : "d" }, CHANGES, schemas[CHANGES]);
    const framed = (id: number, ...parts: Uint8Array[]): Buffer =>
      Buffer.concat([Buffer.from([0, 0, 0, id >> 8, id & 255]), ...parts]);
    const proto = Buffer.concat([
      ...["t5001", "", card_id, merchant_id].flatMap((text, i) =>
        text === "" ? [] : [Buffer.from([((i + 1) << 3) | 2, text.length]), Buffer.from(text)],
      ),
      varintField(2, event_time),
      doubleField(5, 8),
      Buffer.from([50, 3]),
      Buffer.from("EUR"),
    ]);
    const { predictions, letters } = await score([
      raw(change(row)),
      raw(change(null)),
      raw(
        framed(
          JSON_SCHEMA,
          Buffer.from(JSON.stringify({ ...transaction(5_002), attributes: undefined, amount: "Cg==", risk: 0.25 })),
        ),
      ),
      raw(framed(PROTO, Buffer.from([0]), proto)),
    ]);
    expect(
      [...predictions].map(([i, { prediction }]) => [
        i,
        prediction.transaction_id,
        prediction.amount,
        prediction.currency,
        prediction.features,
      ]),
    ).toEqual([
      [0, "5000", 12.5, "EUR", [12.5, 0.5]],
      [2, transaction(5_002).transaction_id, 1, "EUR", [1, 0.25]],
      [3, "t5001", 8, "EUR", [8, 0]],
    ]);
    expect(predictions.get(0)?.prediction.event_time).toBe(event_time);
    expect([...letters].map(([i, { headers }]) => [i, headers["code"]])).toEqual([[1, "no_payload"]]);
    expect(worker.log.map(({ msg }) => msg).join("\n")).toContain(
      `schema ${PROTO} has attributes that the deployed models ask for and that can't be read, so they count ` +
        `as absent: "risk" (bytes)`,
    );
  },
);

function varintField(field: number, value: number): Buffer {
  const bytes = [field << 3];
  let rest = BigInt(value);
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Buffer.from([...bytes, Number(rest)]);
}

function doubleField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(9, (field << 3) | 1);
  bytes.writeDoubleLE(value, 1);
  return bytes;
}

it("scores what a producer committed and nothing that it aborted", async () => {
  const producer = kafka.producer({
    transactionalId: `${system.prefix}payments`,
    maxInFlightRequests: 1,
    idempotent: true,
  });
  await producer.connect();
  const before = (await system.predictions()).length;
  const expected: string[] = [];
  for (let n = 0; n < 10; n++) {
    const open = await producer.transaction();
    const id = `transactional-${n}`;
    await open.send({
      topic: system.topics.transactions.name,
      messages: [{ key: "c", value: wireValue(transaction(n, { transaction_id: id })), partition: 0 }],
    });
    if (n % 3 === 0) await open.abort();
    else {
      await open.commit();
      expected.push(id);
    }
  }
  await producer.disconnect();
  // The last of them is followed by something that can be waited for.
  const { predictions } = await score([transactionRecord(transaction(1, { transaction_id: "last" }))]);
  expect(predictions.get(0)?.prediction.transaction_id).toBe("last");
  const scored = (await system.predictions()).map(({ prediction }) => prediction.transaction_id);
  expect(scored.filter((id) => id.startsWith("transactional"))).toEqual(expected);
  expect(scored.length).toBe(before + expected.length + 1);
});

describe("batches that unpack to too much, or to nothing", () => {
  const MIB = 1024 * 1024;
  const publish = (codec: Codec, records: BombRecord[]): Promise<number> =>
    publishBatch(
      system.cluster,
      system.topics.transactions.name,
      0,
      packedBatch(CODECS[codec], pack(codec, recordPieces(records)), records.length),
    );
  const honest = (n: number): BombRecord => ({ key: Buffer.from("k"), value: wireValue(transaction(n)) });
  const zeros = (count: number): BombRecord => ({ value: { zeros: count } });

  it("become dead letters with their coordinates, once, and their neighbours are scored", async () => {
    const first = await system.publishTo(0, [transactionRecord(transaction(9_000))]);
    const values = [300 * MIB, 40 * MIB, 40 * MIB, 100 * MIB];
    const bombs = await Promise.all(
      (["gzip", "snappy", "lz4", "zstd"] as const).map(async (codec, i) => ({
        codec,
        value: values[i],
        at: await publish(codec, [honest(9_001 + 2 * i), zeros(values[i]), honest(9_002 + 2 * i)]),
      })),
    );
    const whole = await publish("gzip", [honest(9_011), zeros(600 * MIB), honest(9_012)]);
    const last = await system.publishTo(0, [transactionRecord(transaction(9_020))]);
    // `consumed` fetches what lies before, again and again: it would unpack all this, too.
    await eventually(
      "all of it is consumed",
      async () =>
        ((await committedOffset(system.cluster, system.group, {
          topic: system.topics.transactions.name,
          partition: 0,
        })) ?? 0) > last,
      110_000,
    );
    await system.consumed();
    const { predictions, letters } = await outcome(0, first);
    expect([...letters.keys()].map((at) => at + first).sort((a, b) => a - b)).toEqual(
      [...bombs.map(({ at }) => at + 1), whole].sort((a, b) => a - b),
    );
    for (const { codec, value, at } of bombs) {
      const { headers, value: kept } = letters.get(at + 1 - first) as ReadRecord;
      const hash = createHash("sha256");
      for (let left = value; left > 0; left -= MIB) hash.update(Buffer.alloc(Math.min(MIB, left)));
      expect([headers["code"], headers["length"], headers["sha256"], headers["last-offset"], kept], codec).toEqual([
        "too_large",
        String(value),
        hash.digest("hex"),
        undefined,
        null,
      ]);
      for (const neighbour of [at, at + 2]) expect(predictions.has(neighbour - first), codec).toBe(true);
    }
    expect(letters.get(whole - first)?.headers).toMatchObject({
      code: "batch_unreadable",
      step: "decode",
      partition: "0",
      offset: String(whole),
      "last-offset": String(whole + 2),
      attempt: "1",
    });
    expect([predictions.has(0), predictions.has(last - first), predictions.size]).toEqual([true, true, 10]);
    expect(worker.exit).toBeNull();
  }, 120_000);
});

it("has written everything once, in the order of its source", async () => {
  const transactions = await system.read(system.topics.transactions);
  const scored = (await system.predictions()).map(({ partition, prediction }) => ({
    partition,
    from: prediction.source_partition,
    offset: prediction.source_offset,
  }));
  const dead = (await system.deadLetters()).map(({ partition, headers }) => ({
    partition,
    from: Number(headers["partition"]),
    offset: Number(headers["offset"]),
  }));
  for (const list of [scored, dead]) {
    expect(list.filter(({ partition, from }) => partition !== from)).toEqual([]);
    for (let p = 0; p < system.partitions; p++) {
      const offsets = list.filter(({ partition }) => partition === p).map(({ offset }) => offset);
      expect(offsets).toEqual([...new Set(offsets)].sort((a, b) => a - b));
    }
  }
  const coordinates = [...scored, ...dead].map(({ from, offset }) => `${from}/${offset}`).sort();
  expect(coordinates).toEqual(transactions.map(({ partition, offset }) => `${partition}/${offset}`).sort());
  expect(await worker.stop()).toEqual({ code: 0, signal: null });
});
