import { createHash, randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { PartitionOutput } from "../../../../infra/kafka/partition-output.js";
import { appendDeadLetter, replyToOf } from "../../../../pipelines/runtime/dead-letters.js";
import { MAX_DEAD_LETTER_BYTES, MAX_TRANSACTION_BYTES } from "../../../../schemas/topics.js";
import { fetchedRecords, type TestRecord } from "../../../support/fetched-records.js";
import { outputRecords, type OutputRecord } from "./output-records.js";

const cause = { code: "bad_amount" as const, reason: "amount is not a finite number – ü", step: "decode" };

function deadLetter(record: TestRecord): OutputRecord & { text: Record<string, string | undefined> } {
  const output = new PartitionOutput("fraud.dead-letters", 2);
  appendDeadLetter(
    fetchedRecords({ topic: "fraud.transactions", partition: 2, firstOffset: 2 ** 33 }, [record]),
    0,
    cause,
    output,
  );
  const [written] = outputRecords(output);
  return { ...written, text: Object.fromEntries(written.headers.map(([name, value]) => [name, value?.toString()])) };
}

describe("a dead letter", () => {
  it("has the source's key and bytes, unchanged, and cause and coordinates in its headers", () => {
    const value = randomBytes(1_000);
    const letter = deadLetter({ key: Buffer.from("karte-ü"), value });
    expect(letter.value?.equals(value)).toBe(true);
    expect(letter.key?.toString()).toBe("karte-ü");
    expect(letter.text).toEqual({
      ...cause,
      topic: "fraud.transactions",
      partition: "2",
      offset: String(2 ** 33),
      attempt: "1",
    });
  });

  it.each([
    [null, null],
    [Buffer.alloc(0), Buffer.alloc(0)],
    [null, Buffer.alloc(0)],
    [Buffer.alloc(0), null],
  ])("distinguishes an absent key or value from an empty one (%o, %o)", (key, value) => {
    const letter = deadLetter({ key, value });
    expect([letter.key, letter.value]).toEqual([key, value]);
  });

  it.each([
    ["2", "2"],
    ["17", "17"],
    ["0", "1"],
    ["-1", "1"],
    ["x", "1"],
    ["", "1"],
    ["99999999", "1"],
  ])("of a record whose attempt is %j says %j", (given, told) => {
    expect(
      deadLetter({
        value: null,
        headers: [
          ["attempt", Buffer.from(given)],
          ["fraudstream-redrive-of", Buffer.from("fraud.dead-letters/0/1")],
        ],
      }).text["attempt"],
    ).toBe(told);
  });

  it("copies a binary reply-to of 256 bytes unchanged, and no longer one", () => {
    const longest = randomBytes(256);
    expect(
      deadLetter({
        value: null,
        headers: [
          ["a", null],
          ["reply-to", longest],
        ],
      }).headers.find(([name]) => name === "reply-to")?.[1],
    ).toEqual(longest);
    expect(deadLetter({ value: null, headers: [["reply-to", randomBytes(257)]] }).text).not.toHaveProperty("reply-to");
    expect(replyToOf(fetchedRecords({ topic: "t" }, [{ value: null, headers: [["reply-to", null]] }]), 0)).toBeNull();
  });

  it("describes a value over 4 MB by its length and sha256", () => {
    const longest = Buffer.alloc(MAX_TRANSACTION_BYTES, 7);
    expect(deadLetter({ value: longest }).value?.equals(longest)).toBe(true);
    const tooLong = Buffer.alloc(MAX_TRANSACTION_BYTES + 1, 7);
    const letter = deadLetter({ key: Buffer.from("k"), value: tooLong });
    expect([letter.key?.toString(), letter.value]).toEqual(["k", null]);
    expect(letter.text).toMatchObject({
      length: String(tooLong.length),
      sha256: createHash("sha256").update(tooLong).digest("hex"),
    });
  });

  it.each([32 * 1024, 32 * 1024 + 1, 5_000_000])("fits the topic with a key of %d bytes", (keyBytes) => {
    const output = new PartitionOutput("fraud.dead-letters", 0);
    const key = randomBytes(keyBytes);
    appendDeadLetter(
      fetchedRecords({ topic: "t".repeat(249), partition: 0 }, [
        { key, value: Buffer.alloc(MAX_TRANSACTION_BYTES), headers: [["reply-to", randomBytes(256)]] },
      ]),
      0,
      cause,
      output,
    );
    expect(output.batches.map(({ length }) => length <= MAX_DEAD_LETTER_BYTES)).toEqual([true]);
    const [letter] = outputRecords(output);
    const headers = Object.fromEntries(letter.headers.map(([name, value]) => [name, value?.toString()]));
    if (keyBytes <= 32 * 1024) expect(letter.key?.equals(key)).toBe(true);
    else
      expect([letter.key, headers["key-length"], headers["key-sha256"]]).toEqual([
        null,
        String(keyBytes),
        createHash("sha256").update(key).digest("hex"),
      ]);
  });
});
