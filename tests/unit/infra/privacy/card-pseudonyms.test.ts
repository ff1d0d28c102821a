import { createHmac, randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { CardPseudonyms, cardPseudonyms, SEALED_KEY } from "../../../../infra/privacy/card-pseudonyms.js";
import { partitionOf } from "../../../../infra/kafka/batch-producer.js";
import { RowBinaryWriter } from "../../../../infra/clickhouse/row-binary.js";
import { createLogger } from "../../../../infra/logging.js";
import { LabelReader } from "../../../../schemas/label-reader.js";
import { deadLetterOf } from "../../../../pipelines/runtime/dead-letters.js";
import { labelRows } from "../../../../pipelines/sink/rows/label-rows.js";
import type { AvroSchema } from "../../../../schemas/avro-cursor.js";
import { FraudstreamError } from "../../../../schemas/errors.js";
import { labelSchema, transactionSchema } from "../../../../schemas/generated.js";
import { MAX_DEAD_LETTER_BYTES, MAX_TRANSACTION_BYTES } from "../../../../schemas/topics.js";
import { TransactionFields, TransactionReader } from "../../../../schemas/transaction-reader.js";
import { fetchedRecords } from "../../../support/fetched-records.js";
import { labelRecord } from "../../../support/merchants.js";
import { transaction, TRANSACTION_SCHEMA_ID, wireValue } from "../../../support/transactions.js";

const KEY = "a key of the tests, thirty-two bytes or more";

test.each([1, 2, 4, 7, 64, 1_000])("a pseudonym is the card id's HMAC, and keeps its partition of %i", (partitions) => {
  const cards = new CardPseudonyms(KEY, partitions);
  const seen = new Set<string>();
  for (let i = 0; i < 200; i++) {
    const id = i % 2 === 0 ? `card-${i}` : randomBytes(1 + (i % 60)).toString("base64");
    const pseudonym = cards.ofText(id);
    expect(pseudonym).toMatch(/^pc1\.[A-Za-z0-9_-]{28}$/);
    expect(pseudonym.slice(4, 28)).toBe(createHmac("sha256", KEY).update(id).digest("base64url").slice(0, 24));
    expect(partitionOf(Buffer.from(pseudonym), partitions)).toBe(partitionOf(Buffer.from(id), partitions));
    expect(cards.ofText(id)).toBe(pseudonym);
    expect(cards.ofText(pseudonym)).toBe(pseudonym);
    seen.add(pseudonym);
  }
  expect(seen.size).toBe(200);
});

test("known pseudonyms, so that they never change", () => {
  const cards = new CardPseudonyms(KEY, 4);
  expect(["c-1", "4111111111111111", "карта"].map((id) => cards.ofText(id))).toMatchInlineSnapshot(`
    [
      "pc1.8a7klyTxylC7MqLdb5xESgv4HAAA",
      "pc1.9ku6rvioTpRWr18h-eNi1kvQCAAA",
      "pc1.MgVvi_WuysMdnHENoUurh5hZAAAA",
    ]
  `);
  const bytes = Buffer.from("before c-1 behind");
  expect(cards.of(bytes, 7, 3).toString()).toBe(cards.ofText("c-1"));
});

test("another key gives other pseudonyms, and an id that only looks like a pseudonym is hashed", () => {
  const cards = new CardPseudonyms(KEY, 4);
  const others = new CardPseudonyms(`${KEY}!`, 4);
  expect(others.ofText("c-1")).not.toBe(cards.ofText("c-1"));
  expect(new Set([cards, others, new CardPseudonyms(KEY, 8)].map(({ fingerprint }) => fingerprint)).size).toBe(3);
  expect(new CardPseudonyms(KEY, 4).fingerprint).toBe(cards.fingerprint);
  const real = cards.ofText("c-1");
  for (const almost of [
    real.slice(0, -1),
    `${real}A`,
    real.replace("pc1.", "pc2."),
    `${real.slice(0, -1)}=`,
    `${real.slice(0, -1)}é`,
  ])
    expect(cards.ofText(almost)).not.toBe(almost);
  expect(cardPseudonyms({ cardIdKey: null, topicPartitions: 4 })).toBeNull();
});

test("whoever has the key can open what is sealed, unchanged", () => {
  const cards = new CardPseudonyms(KEY, 4);
  for (const bytes of [Buffer.alloc(0), Buffer.from("c-1"), randomBytes(100_000)]) {
    const sealed = cards.seal(bytes);
    expect(sealed.includes("c-1")).toBe(false);
    expect(sealed.length).toBe(bytes.length + 28);
    expect(new CardPseudonyms(KEY, 8).open(sealed).equals(bytes)).toBe(true);
    expect(cards.seal(bytes).equals(sealed)).toBe(false);
  }
  const sealed = cards.seal(Buffer.from("c-1"));
  const changed = Buffer.from(sealed);
  changed[14] ^= 1;
  for (const [opener, bytes] of [
    [new CardPseudonyms(`${KEY}!`, 4), sealed],
    [cards, changed],
    [cards, sealed.subarray(1)],
    [cards, Buffer.alloc(3)],
  ] as const) {
    expect(() => opener.open(bytes)).toThrow(FraudstreamError);
  }
});

describe("no card id is left behind any reader", () => {
  const cards = new CardPseudonyms(KEY, 4);
  const CARD = "PLAIN-1";

  test("a transaction's bytes hold its fields without the card id, in Avro or JSON", () => {
    const given = transaction(7, { card_id: CARD, merchant_id: "a merchant", currency: "USD" });
    const reader = new TransactionReader(
      { find: () => -1, number: () => {}, boolean: () => {}, text: () => {} },
      cards,
    );
    reader.learn(TRANSACTION_SCHEMA_ID, transactionSchema as unknown as AvroSchema);
    const fields = new TransactionFields();
    for (const value of [wireValue(given), Buffer.from(JSON.stringify(given))]) {
      reader.read(value, 0, value.length, Date.now(), fields);
      expect(fields.bytes.includes(CARD)).toBe(false);
      const texts = [
        fields.text(fields.transactionIdAt, fields.transactionIdLength),
        fields.text(fields.cardIdAt, fields.cardIdLength),
        fields.text(fields.merchantIdAt, fields.merchantIdLength),
        fields.text(fields.currencyAt, fields.currencyLength),
      ];
      expect(texts).toEqual(["t7", cards.ofText(CARD), "a merchant", "USD"]);
      expect([fields.amount, fields.eventTime]).toEqual([given.amount, given.event_time]);
    }
  });

  test("nor is it in a label's bytes, nor in its row", async () => {
    const { value } = labelRecord({
      transaction_id: "t-1",
      card_id: CARD,
      is_fraud: true,
      label_time: 1_700_000_000_000,
    }) as { value: Buffer };
    const reader = new LabelReader(cards);
    reader.learn(1_000_003, labelSchema as unknown as AvroSchema);
    expect(reader.read(value, 0, value.length)).toBe(true);
    expect(reader.bytes.includes(CARD)).toBe(false);
    expect(reader.bytes.toString("utf8", reader.cardAt, reader.cardAt + reader.cardLength)).toBe(cards.ofText(CARD));
    expect(reader.bytes.toString("utf8", reader.transactionAt, reader.transactionAt + reader.transactionLength)).toBe(
      "t-1",
    );
    const [hidden, open] = await Promise.all(
      [cards, null].map(async (by) => {
        const backoff = { firstMs: 1, mostMs: 1, signal: new AbortController().signal };
        const rows = labelRows({
          lookup: () => Promise.resolve(labelSchema as unknown as AvroSchema),
          backoff,
          log: createLogger({ logLevel: "silent" }, "test"),
          cards: by,
        });
        const records = fetchedRecords({ topic: "fraud.labels" }, [{ value }]);
        const out = new RowBinaryWriter(16);
        await rows.prepare(records, 0);
        expect(rows.write(records, 0, out)).toBeNull();
        return Buffer.from(out.written()).toString("latin1");
      }),
    );
    expect(open).toContain(CARD);
    expect(hidden).toBe(open.replace(`\x07${CARD}`, `\x20${cards.ofText(CARD)}`));
  });

  test("a dead letter is sealed, has its card's partition, and fits with the longest value and key", () => {
    const value = Buffer.alloc(MAX_TRANSACTION_BYTES, `{"card_id":"${CARD}"`);
    for (const key of [Buffer.from(CARD), null, Buffer.alloc(32 * 1024, CARD)]) {
      const letter = deadLetterOf(
        fetchedRecords({ topic: "fraud.transactions", partition: 2 }, [{ key, value }]),
        0,
        { code: "json_invalid", reason: "r".repeat(500), step: "decode" },
        cards,
      );
      const all = Buffer.concat([letter.key ?? Buffer.alloc(0), letter.value as Buffer, letter.headers]);
      expect(all.includes("PLAIN")).toBe(false);
      expect(all.length).toBeLessThan(MAX_DEAD_LETTER_BYTES);
      expect(letter.headers.includes(SEALED_KEY)).toBe(true);
      expect(cards.open(letter.value as Buffer).equals(value)).toBe(true);
      expect(letter.key === null ? null : partitionOf(letter.key, 4)).toBe(key === null ? null : partitionOf(key, 4));
    }
  });
});
