import { createHash, type Hash } from "node:crypto";
import { FraudstreamError } from "../../schemas/errors.js";
import { MAX_TRANSACTION_BYTES } from "../../schemas/topics.js";
import { unpackInPieces } from "./compression.js";
import { writeVarint } from "./record-batch-builder.js";
import { headersFit, readVarint, type Unread } from "./records.js";

export interface LargeBatch {
  codec: number;
  packed: Buffer;
  baseOffset: number;
  lastOffset: number;
  /** How many records it claims to have. */
  count: number;
  /** Records before this offset are left out. */
  from: number;
  /** This many records, and bytes of records, are kept; those that follow are left to the next fetch. */
  most: { records: number; bytes: number };
}

export interface SiftedBatch {
  /** The records that are kept, encoded as they were; a record that is too large is replaced by one without a value. */
  records: Buffer;
  count: number;
  unread: Map<number, Unread>;
  /** Where the next fetch continues. */
  next: number;
}

/** A batch that unpacks to more is not unpacked: no producer's settings create one. */
const MOST_BYTES = 512 * 1024 * 1024;
/** A record that fits is kept as it is: the largest accepted value, plus a key and headers. */
const LARGEST_RECORD = MAX_TRANSACTION_BYTES + 256 * 1024;
/** Keys and headers of a record that doesn't fit are kept up to this size. */
const KEPT_BYTES = 64 * 1024;
/** Length, attributes, two deltas and the length of a key. */
const LONGEST_HEAD = 32;
const FIRST_KEPT_BYTES = 1024 * 1024;

/**
 * Takes the records out of a compressed batch that is too large to be unpacked at once. All of it is unpacked and
 * checked, whatever is kept: whether a batch can be read must not depend on where its reader begins.
 *
 * @throws FraudstreamError `batch_corrupt`
 */
export async function siftBatch(batch: LargeBatch): Promise<SiftedBatch> {
  const feed = new Feed(unpackInPieces(batch.codec, batch.packed));
  const sieve = new Sieve(batch);
  try {
    for (let i = 0; i < batch.count; i++) {
      if (feed.available < LONGEST_HEAD) await feed.fill(LONGEST_HEAD, true);
      const length = feed.varint();
      if (length < 0) throw corrupt("a record's length is negative");
      if (length > LARGEST_RECORD) await sieve.replace(feed, length);
      else {
        if (feed.available < length) await feed.fill(length);
        sieve.take(feed.bytes(length));
      }
    }
    if (!(await feed.ended())) throw corrupt("there is more than the records that it claims");
  } finally {
    await feed.close();
  }
  return sieve.result();
}

function corrupt(why: string): FraudstreamError {
  return new FraudstreamError("batch_corrupt", why);
}

/** Collects the records to keep as they are read. */
class Sieve {
  readonly #batch: LargeBatch;
  readonly #unread = new Map<number, Unread>();
  #kept = Buffer.allocUnsafe(FIRST_KEPT_BYTES);
  #length = 0;
  #count = 0;
  #previous = -1;
  #next: number;
  #full = false;

  constructor(batch: LargeBatch) {
    this.#batch = batch;
    this.#next = batch.lastOffset + 1;
  }

  /** Keeps a record that was read completely. @param body without its length */
  take(body: Buffer): void {
    const cursor = { at: 1 };
    readVarint(body, cursor);
    const offset = this.#offsetOf(readVarint(body, cursor));
    for (let i = 0; i < 2; i++) {
      const length = readVarint(body, cursor);
      if (length > 0) cursor.at += length;
    }
    if (cursor.at >= body.length || !headersFit(body, cursor.at, body.length))
      throw corrupt("a record's fields do not fit its length");
    if (this.#wants(offset)) this.#keep(body);
  }

  /** Reads a record that is too large to be held, and keeps one without a value in its place. */
  async replace(feed: Feed, length: number): Promise<void> {
    const end = feed.position + length;
    const head = await this.#readHead(feed);
    const offset = this.#offsetOf(head.offsetDelta);
    const key = head.keyLength < 0 || head.keyLength > KEPT_BYTES ? null : Buffer.from(await feed.take(head.keyLength));
    if (key === null) await feed.skip(Math.max(head.keyLength, 0));
    await feed.fill(10, true);
    const valueLength = feed.varint();
    if (feed.position + Math.max(valueLength, 0) >= end) throw corrupt("a record's fields do not fit its length");
    const wanted = this.#wants(offset);
    const hash = createHash("sha256");
    await feed.skip(Math.max(valueLength, 0), wanted ? hash : null);
    const left = end - feed.position;
    const headers = left <= KEPT_BYTES ? Buffer.from(await feed.take(left)) : null;
    if (headers === null) await feed.skip(left);
    else if (!headersFit(headers, 0, headers.length)) throw corrupt("a record's headers do not fit its length");
    if (!wanted) return;
    const reason =
      valueLength > MAX_TRANSACTION_BYTES
        ? `the value has ${valueLength} bytes; ${MAX_TRANSACTION_BYTES} are taken`
        : `the record has ${length} bytes; ${LARGEST_RECORD} are taken`;
    this.#unread.set(this.#count, {
      code: "too_large",
      reason,
      lastOffset: offset,
      length: Math.max(valueLength, 0),
      sha256: hash.digest("hex"),
    });
    this.#keep(withoutValue(head.bytes, key, headers));
  }

  result(): SiftedBatch {
    return {
      records: this.#kept.subarray(0, this.#length),
      count: this.#count,
      unread: this.#unread,
      next: this.#next,
    };
  }

  /** Attributes and the two deltas, as they are there, and the length of the key. */
  async #readHead(feed: Feed): Promise<{ bytes: Buffer; offsetDelta: number; keyLength: number }> {
    await feed.fill(LONGEST_HEAD);
    const view = feed.peek();
    const cursor = { at: 1 };
    readVarint(view, cursor);
    const offsetDelta = readVarint(view, cursor);
    const bytes = Buffer.from(view.subarray(0, cursor.at));
    const keyLength = readVarint(view, cursor);
    feed.bytes(cursor.at);
    return { bytes, offsetDelta, keyLength };
  }

  #offsetOf(delta: number): number {
    const offset = this.#batch.baseOffset + delta;
    if (offset <= this.#previous || offset > this.#batch.lastOffset)
      throw corrupt("a record's offset does not fit its batch");
    this.#previous = offset;
    return offset;
  }

  #wants(offset: number): boolean {
    if (offset < this.#batch.from || this.#full) return false;
    if (this.#length < this.#batch.most.bytes && this.#count < this.#batch.most.records) return true;
    this.#full = true;
    this.#next = offset;
    return false;
  }

  #keep(body: Buffer): void {
    const needed = this.#length + body.length + 5;
    if (needed > this.#kept.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#kept.length * 2, needed));
      this.#kept.copy(larger, 0, 0, this.#length);
      this.#kept = larger;
    }
    const at = writeVarint(this.#kept, this.#length, body.length);
    body.copy(this.#kept, at);
    this.#length = at + body.length;
    this.#count++;
  }
}

function withoutValue(head: Buffer, key: Buffer | null, headers: Buffer | null): Buffer {
  const keyLength = Buffer.allocUnsafe(5);
  const keyLengthEnd = writeVarint(keyLength, 0, key?.length ?? -1);
  const noValue = Buffer.from([1]);
  return Buffer.concat([
    head,
    keyLength.subarray(0, keyLengthEnd),
    ...(key === null ? [] : [key]),
    noValue,
    headers ?? Buffer.from([0]),
  ]);
}

/** Bytes that arrive in chunks, read in order. */
class Feed {
  readonly #pieces: AsyncGenerator<Buffer>;
  #held: Buffer = Buffer.alloc(0);
  #at = 0;
  #total = 0;

  constructor(pieces: AsyncGenerator<Buffer>) {
    this.#pieces = pieces;
  }

  /** Bytes that can be read without waiting. */
  get available(): number {
    return this.#held.length - this.#at;
  }

  /** Bytes that have been read. */
  get position(): number {
    return this.#total - this.available;
  }

  /** Returns the bytes that can be read without waiting, without consuming them. */
  peek(): Buffer {
    return this.#held.subarray(this.#at);
  }

  /** Waits for this many bytes. @param orEnd whether the end may come first */
  async fill(count: number, orEnd = false): Promise<void> {
    if (this.available >= count) return;
    const parts = [this.peek()];
    let length = this.available;
    while (length < count) {
      const piece = await this.#nextPiece();
      if (piece === null) {
        if (orEnd) break;
        throw corrupt("a record is cut off");
      }
      parts.push(piece);
      length += piece.length;
    }
    this.#held = Buffer.concat(parts, length);
    this.#at = 0;
  }

  varint(): number {
    const cursor = { at: this.#at };
    const value = readVarint(this.#held, cursor);
    if (cursor.at > this.#held.length) throw corrupt("a record is cut off");
    this.#at = cursor.at;
    return value;
  }

  /** The next bytes, which must be available; valid until the next call. */
  bytes(count: number): Buffer {
    if (count > this.available) throw corrupt("a record is cut off");
    this.#at += count;
    return this.#held.subarray(this.#at - count, this.#at);
  }

  async take(count: number): Promise<Buffer> {
    await this.fill(count);
    return this.bytes(count);
  }

  async skip(count: number, hash: Hash | null = null): Promise<void> {
    for (let left = count; left > 0;) {
      if (this.available === 0) await this.fill(1);
      const piece = this.bytes(Math.min(left, this.available));
      hash?.update(piece);
      left -= piece.length;
    }
  }

  async ended(): Promise<boolean> {
    await this.fill(1, true);
    return this.available === 0;
  }

  async close(): Promise<void> {
    await this.#pieces.return(undefined);
  }

  async #nextPiece(): Promise<Buffer | null> {
    const { value, done } = (await this.#pieces.next()) as IteratorResult<Buffer, undefined>;
    if (done === true || value === undefined) return null;
    this.#total += value.length;
    if (this.#total > MOST_BYTES) throw corrupt(`it unpacks to more than ${MOST_BYTES} bytes`);
    return value;
  }
}
