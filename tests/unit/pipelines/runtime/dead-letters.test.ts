import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { PartitionOutput } from "../../../../infra/kafka/partition-output.js";
import { readRecords } from "../../../../infra/kafka/record-reader.js";
import { readHeaders } from "../../../../infra/kafka/records.js";
import { appendDeadLetter, replyToOf } from "../../../../pipelines/runtime/dead-letters.js";
import { MAX_DEAD_LETTER_BYTES, MAX_TRANSACTION_BYTES } from "../../../../schemas/topics.js";
import { fetchedRecords, type TestRecord } from "../../../support/fetched-records.js";

const CAUSE = { code: "bad_amount" as const, reason: "amount is not a finite number", step: "decode" };
const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

interface Letter {
  key: Buffer | null;
  value: Buffer | null;
  headers: Record<string, string>;
  bytes: number;
}

/** The dead letter of a record among others, as a reader of the topic gets it. */
function letterOf(record: TestRecord): Letter {
  const source = fetchedRecords({ topic: "fraud.transactions", partition: 3, firstOffset: 41 }, [
    { value: Buffer.from("before"), key: Buffer.from("x") },
    record,
    { value: Buffer.from("behind") },
  ]);
  const output = new PartitionOutput("fraud.dead-letters", 3);
  appendDeadLetter(source, 1, CAUSE, output);
  const [batch] = output.batches;
  const bytes = batch.finish(1, { producerId: -1n, producerEpoch: -1, firstSequence: -1, transactional: false });
  const letters = readRecords({
    topic: "fraud.dead-letters",
    partition: 3,
    from: 0,
    bytes,
    aborted: [],
    lastStableOffset: 1,
  });
  expect(letters.count).toBe(1);
  const part = (at: number, length: number): Buffer | null =>
    length < 0 ? null : letters.bytes.subarray(at, at + length);
  return {
    key: part(letters.keyAt[0], letters.keyLength[0]),
    value: part(letters.valueAt[0], letters.valueLength[0]),
    bytes: bytes.length,
    headers: Object.fromEntries(readHeaders(letters, 0).map(([name, value]) => [name, value?.toString() ?? "null"])),
  };
}

const HEADERS = { ...CAUSE, topic: "fraud.transactions", partition: "3", offset: "42", attempt: "1" };

const REDRIVEN: [string, Buffer] = ["fraudstream-redrive-of", Buffer.from("fraud.dead-letters/3/7")];

describe("a dead letter", () => {
  test("has the unchanged key and bytes of its source, its coordinates and the cause", () => {
    const bytes = Buffer.from([0xff, 0, 1, 0x80]);
    expect(letterOf({ key: Buffer.from("card"), value: bytes })).toMatchObject({
      key: Buffer.from("card"),
      value: bytes,
      headers: HEADERS,
    });
  });

  test("of a record without key or value has none either; empty stays empty", () => {
    expect(letterOf({ key: null, value: null })).toMatchObject({ key: null, value: null, headers: HEADERS });
    expect(letterOf({ key: Buffer.alloc(0), value: Buffer.alloc(0) })).toMatchObject({
      key: Buffer.alloc(0),
      value: Buffer.alloc(0),
      headers: HEADERS,
    });
  });

  test.each<[string, [string, Buffer | null][], Record<string, string>]>([
    ["a reply-to that is ours", [["reply-to", Buffer.from("api-1")]], { ...HEADERS, "reply-to": "api-1" }],
    ["one of 257 bytes", [["reply-to", Buffer.alloc(257, 97)]], HEADERS],
    ["one without a value", [["reply-to", null]], HEADERS],
    ["the attempt that it was sent again for", [["attempt", Buffer.from("2")], REDRIVEN], { ...HEADERS, attempt: "2" }],
    ["a producer's own attempt", [["attempt", Buffer.from("2")]], HEADERS],
    [
      "another's redrive",
      [
        ["attempt", Buffer.from("2")],
        ["fraudstream-redrive-of", Buffer.from("queue")],
      ],
      HEADERS,
    ],
    ["an attempt that is none", [["attempt", Buffer.from("-1")], REDRIVEN], HEADERS],
    ["a huge attempt", [["attempt", Buffer.from("99999999999")], REDRIVEN], HEADERS],
    [
      "headers of somebody else",
      [
        ["code", Buffer.from("theirs")],
        ["trace", Buffer.from("x")],
      ],
      HEADERS,
    ],
  ])("takes from the source's headers: %s", (_name, headers, expected) => {
    expect(letterOf({ value: Buffer.from("v"), headers }).headers).toEqual(expected);
  });

  test("of a value at the limit has all of it; of a longer one, its length and sha256", () => {
    const most = Buffer.alloc(MAX_TRANSACTION_BYTES, 7);
    expect(letterOf({ value: most }).value?.equals(most)).toBe(true);
    const more = Buffer.alloc(MAX_TRANSACTION_BYTES + 1, 7);
    expect(letterOf({ key: Buffer.from("k"), value: more })).toMatchObject({
      key: Buffer.from("k"),
      value: null,
      headers: { ...HEADERS, length: String(more.length), sha256: sha256(more) },
    });
  });

  test("fits its topic with the longest key and value, and describes a longer key by length and sha256", () => {
    const value = Buffer.alloc(MAX_TRANSACTION_BYTES, 7);
    const key = Buffer.alloc(1_000_000, 8);
    const letter = letterOf({ key, value, headers: [["reply-to", Buffer.alloc(256, 97)]] });
    expect(letter).toMatchObject({ key: null, headers: { "key-length": "1000000", "key-sha256": sha256(key) } });
    expect(
      letterOf({ key: Buffer.alloc(32 * 1024, 8), value, headers: [["reply-to", Buffer.alloc(256, 97)]] }).bytes,
    ).toBeLessThanOrEqual(MAX_DEAD_LETTER_BYTES);
  });
});

test("replyToOf finds the header, whatever comes before it", () => {
  const records = fetchedRecords({ topic: "t" }, [
    {
      value: null,
      headers: [
        ["a", null],
        ["b", Buffer.alloc(300)],
        ["reply-to", Buffer.from("me")],
        ["reply-to", Buffer.from("other")],
      ],
    },
    { value: null },
  ]);
  expect([replyToOf(records, 0)?.toString(), replyToOf(records, 1)]).toEqual(["me", null]);
});
