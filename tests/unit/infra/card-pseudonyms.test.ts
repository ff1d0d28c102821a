import { createHmac, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { CardPseudonyms, cardPseudonyms } from "../../../infra/card-pseudonyms.js";
import { partitionOf } from "../../../infra/kafka/batch-producer.js";
import { FraudstreamError } from "../../../schemas/errors.js";

const KEY = "a key of the tests, thirty-two bytes or more";

test.each([1, 2, 4, 7, 64, 1_000])("a pseudonym is the card id's HMAC, and lies in its partition of %i", (partitions) => {
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

test("known ones, so that they stay what they are", () => {
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

test("another key makes others, and what only looks like a pseudonym is hashed", () => {
  const cards = new CardPseudonyms(KEY, 4);
  const others = new CardPseudonyms(`${KEY}!`, 4);
  expect(others.ofText("c-1")).not.toBe(cards.ofText("c-1"));
  expect(new Set([cards, others, new CardPseudonyms(KEY, 8)].map(({ fingerprint }) => fingerprint)).size).toBe(3);
  expect(new CardPseudonyms(KEY, 4).fingerprint).toBe(cards.fingerprint);
  const real = cards.ofText("c-1");
  for (const almost of [real.slice(0, -1), `${real}A`, real.replace("pc1.", "pc2."), `${real.slice(0, -1)}=`, `${real.slice(0, -1)}é`]) expect(cards.ofText(almost)).not.toBe(almost);
  expect(cardPseudonyms({ cardIdKey: null, topicPartitions: 4 })).toBeNull();
});

test("what is sealed is opened by whoever has the key, as it was", () => {
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
  for (const [opener, bytes] of [[new CardPseudonyms(`${KEY}!`, 4), sealed], [cards, changed], [cards, sealed.subarray(1)], [cards, Buffer.alloc(3)]] as const) {
    expect(() => opener.open(bytes)).toThrow(FraudstreamError);
  }
});
