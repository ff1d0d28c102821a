import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from "node:crypto";
import { FraudstreamError } from "../../schemas/errors.js";
import type { CardIds } from "../../schemas/transaction-reader.js";
import type { Config } from "../config/config.js";
import { partitionOfKey } from "../kafka/murmur2.js";

/**
 * Header of a dead letter whose value is sealed, since it may hold a card id: the source's key, sealed as well; empty:
 * it had none.
 */
export const SEALED_KEY = "sealed-key";

/** What every pseudonym begins with, so that one is never hashed again. */
const PREFIX = Buffer.from("pc1.");
/** Of the hash, 144 bits: 18 bytes, 24 characters. */
const HASH_BYTES = 18;
const SUFFIX_BYTES = 4;
const LENGTH = 32;
const SUFFIX_AT = LENGTH - SUFFIX_BYTES;
const ALPHABET = Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
const IS_LETTER = Uint8Array.from({ length: 256 }, (_, byte) => Number(ALPHABET.includes(byte)));

const CIPHER = "aes-256-gcm";
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** The pseudonyms of a configuration; null: card ids stand for themselves. */
export function cardPseudonyms({
  cardIdKey,
  topicPartitions,
}: Pick<Config, "cardIdKey" | "topicPartitions">): CardPseudonyms | null {
  return cardIdKey === null ? null : new CardPseudonyms(cardIdKey, topicPartitions);
}

/**
 * The pseudonym that replaces a card id wherever one is stored (infra/decisions/0009-pseudonyms.md): `pc1.`, 24
 * characters of the card id's HMAC-SHA-256 (RFC 2104, cut to 144 bits, in base64url), and 4 characters chosen so that
 * Kafka's partitioner puts the pseudonym where it puts the card id. So a reader that has only pseudonyms finds the
 * partition of a card, and a record that carries one is keyed like any other. A pseudonym stands for itself.
 */
export class CardPseudonyms implements CardIds {
  /** Says whether two processes create the same pseudonyms, without revealing the key. */
  readonly fingerprint: string;
  readonly #key: Buffer;
  readonly #sealKey: Buffer;
  readonly #partitions: number;

  /** @param partitions of the topics that are keyed by cards */
  constructor(key: string, partitions: number) {
    this.#key = Buffer.from(key);
    this.#partitions = partitions;
    this.#sealKey = Buffer.from(hkdfSync("sha256", this.#key, "", "fraudstream dead letters", 32));
    this.fingerprint = Buffer.from(
      hkdfSync("sha256", this.#key, "", `fraudstream fingerprint ${partitions}`, 9),
    ).toString("base64url");
  }

  /** The pseudonym of the card id in `length` bytes from `at` on; bytes of its own, 32 of them. */
  of(bytes: Uint8Array, at: number, length: number): Buffer {
    const id = bytes.subarray(at, at + length);
    if (isPseudonym(id)) return Buffer.from(id);
    const pseudonym = Buffer.allocUnsafe(LENGTH);
    pseudonym.set(PREFIX);
    pseudonym.write(
      createHmac("sha256", this.#key).update(id).digest("base64url"),
      PREFIX.length,
      (HASH_BYTES * 4) / 3,
      "latin1",
    );
    const partition = partitionOfKey(bytes, at, length, this.#partitions);
    // Each try hits with a chance of one in as many as there are partitions; there are 16 million.
    for (let tried = 0; ; tried++) {
      for (let i = 0; i < SUFFIX_BYTES; i++) pseudonym[SUFFIX_AT + i] = ALPHABET[(tried >>> (6 * i)) & 63];
      if (partitionOfKey(pseudonym, 0, LENGTH, this.#partitions) === partition) return pseudonym;
    }
  }

  ofText(id: string): string {
    const bytes = Buffer.from(id);
    return this.of(bytes, 0, bytes.length).toString("latin1");
  }

  /** Bytes that may hold card ids, for those only who have the key: IV, AES-256-GCM, tag. */
  seal(bytes: Uint8Array): Buffer {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv(CIPHER, this.#sealKey, iv);
    return Buffer.concat([iv, cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
  }

  /** @throws FraudstreamError `unsealable` for what this key has not sealed */
  open(sealed: Uint8Array): Buffer {
    try {
      const decipher = createDecipheriv(CIPHER, this.#sealKey, sealed.subarray(0, IV_BYTES));
      decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
      return Buffer.concat([decipher.update(sealed.subarray(IV_BYTES, sealed.length - TAG_BYTES)), decipher.final()]);
    } catch (cause) {
      throw new FraudstreamError("unsealable", "what was sealed with another CARD_ID_KEY can't be opened", { cause });
    }
  }
}

function isPseudonym(id: Uint8Array): boolean {
  if (id.length !== LENGTH) return false;
  for (let i = 0; i < PREFIX.length; i++) if (id[i] !== PREFIX[i]) return false;
  for (let i = PREFIX.length; i < LENGTH; i++) if (IS_LETTER[id[i]] === 0) return false;
  return true;
}
