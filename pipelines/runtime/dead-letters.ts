import { createHash } from "node:crypto";
import { SEALED_KEY, type CardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { maskedText } from "../../infra/privacy/masking/masked-text.js";
import type { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { decodeMark, encodeMark, formerTopicOf, type OffsetMark } from "../../infra/kafka/offset-mark.js";
import { readHeaders, type FetchedRecords } from "../../infra/kafka/records.js";
import type { RecordCode } from "../../schemas/error-codes.js";
import { MAX_TRANSACTION_BYTES } from "../../schemas/topics.js";

/** Why a record could not be used, and at which step this was found. */
export interface Cause {
  code: RecordCode;
  reason: string;
  step: string;
}

export const REPLY_TO = "reply-to";
/** A longer one is not ours and is not copied. */
const MAX_REPLY_TO_BYTES = 256;
/** A longer key (only a compressed batch can bring one) would not fit beside the longest value and the headers. */
const MAX_KEY_BYTES = 32 * 1024;
const ATTEMPT = "attempt";
/** On a dead letter that was sent again: its place among the dead letters, `<topic>/<partition>/<offset>`. */
const REDRIVE_OF = "fraudstream-redrive-of";
/**
 * On a dead letter of a transaction: the topic that its offset belongs to, as with committed offsets (OffsetMark). A
 * name may later refer to another topic.
 */
export const SOURCE_LOG = "source-log";
const PLACE = /^.{1,300}\/\d{1,10}\/\d{1,16}$/;

/** The reply-to header of a record; null: there is none to copy. */
export function replyToOf(records: FetchedRecords, record: number): Buffer | null {
  // Almost every record has no headers: their count is its own first byte.
  if (records.bytes[records.headersAt[record]] === 0) return null;
  for (const [name, value] of readHeaders(records, record)) {
    if (name === REPLY_TO && value !== null && value.length <= MAX_REPLY_TO_BYTES) return value;
  }
  return null;
}

/** Appends the dead letter of a record to an output. @param mark of the record's topic */
export function appendDeadLetter(
  records: FetchedRecords,
  record: number,
  cause: Cause,
  output: PartitionOutput,
  cards: CardPseudonyms | null = null,
  mark: OffsetMark | null = null,
): void {
  const { key, value, headers } = deadLetterOf(
    records,
    record,
    cause,
    cards,
    mark === null ? [] : [[SOURCE_LOG, encodeMark({ ...mark, gaps: [] })]],
  );
  output.append(key, value, headers);
}

/**
 * Whether the offset in a dead letter belongs to an earlier topic of the source's name. @param mark of the current
 * topic
 */
export function isOfFormerTopic(sourceLog: string | undefined, mark: OffsetMark): boolean {
  // Dead letters of earlier versions don't say.
  return sourceLog !== undefined && sourceLog !== "" && formerTopicOf(decodeMark(sourceLog), mark) !== null;
}

/**
 * A dead letter: the key and bytes of the source, unchanged, with its coordinates and the cause in the headers. A value
 * or key larger than dead letters may be is replaced by its length and sha256; a batch that could not be read, by those
 * of the batch and the last offset that it covers.
 *
 * @param cards if card ids have pseudonyms: the key is a pseudonym, and the source's content is sealed
 * @param more further headers
 */
export function deadLetterOf(
  records: FetchedRecords,
  record: number,
  cause: Cause,
  cards: CardPseudonyms | null = null,
  more: readonly [string, string][] = [],
): { key: Buffer | null; value: Buffer | null; headers: Buffer } {
  const { bytes, keyAt, keyLength, valueAt, valueLength } = records;
  const key = keyLength[record] < 0 ? null : bytes.subarray(keyAt[record], keyAt[record] + keyLength[record]);
  const value = valueLength[record] < 0 ? null : bytes.subarray(valueAt[record], valueAt[record] + valueLength[record]);
  const headers: [string, Uint8Array | string][] = [
    ["code", cause.code],
    ["reason", maskedText(cause.reason)],
    ["step", cause.step],
    ["topic", records.topic],
    ["partition", String(records.partition)],
    ["offset", String(records.offset[record])],
    [ATTEMPT, attemptOf(records, record)],
    ...more,
  ];
  const replyTo = replyToOf(records, record);
  if (replyTo !== null) headers.push([REPLY_TO, replyTo]);
  const unread = records.unread?.get(record);
  if (unread !== undefined) {
    headers.push(["length", String(unread.length)], ["sha256", unread.sha256]);
    if (unread.lastOffset > records.offset[record]) headers.push(["last-offset", String(unread.lastOffset)]);
  }
  const tooLarge = value !== null && value.length > MAX_TRANSACTION_BYTES;
  if (tooLarge) headers.push(["length", String(value.length)], ["sha256", sha256(value)]);
  const keyTooLarge = key !== null && key.length > MAX_KEY_BYTES;
  if (keyTooLarge) headers.push(["key-length", String(key.length)], ["key-sha256", sha256(key)]);
  const kept = { key: keyTooLarge ? null : key, value: tooLarge ? null : value };
  if (cards === null) return { ...kept, headers: encodeHeaders(headers) };
  headers.push([SEALED_KEY, kept.key === null ? "" : cards.seal(kept.key)]);
  return {
    key: kept.key && cards.of(kept.key, 0, kept.key.length),
    value: kept.value && cards.seal(kept.value),
    headers: encodeHeaders(headers),
  };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * How often the record has been tried: once, unless it was sent again and says so. Producers may have `attempt` headers
 * of their own; those do not count.
 */
export function attemptOf(records: FetchedRecords, record: number): string {
  if (records.bytes[records.headersAt[record]] === 0) return "1";
  const headers = new Map(readHeaders(records, record));
  const attempt = headers.get(ATTEMPT)?.toString() ?? "";
  return PLACE.test(headers.get(REDRIVE_OF)?.toString() ?? "") && /^[1-9]\d{0,5}$/.test(attempt) ? attempt : "1";
}
