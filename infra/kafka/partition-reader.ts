import { SILENT_AFTER_MS } from "./broker-connection.js";
import { RETRY, retry } from "../async/retry.js";
import { call, send, type KafkaCluster } from "./cluster.js";
import { KafkaError, TOPIC_RECREATED, protocolError, toKafkaError } from "./errors.js";
import { NO_TOPIC_ID } from "./offset-mark.js";
import { waitAfter, type OpenReader, type OpenTransactionWait } from "./open-readers.js";
import { readFetched, type AbortedTransaction } from "./record-reader.js";
import type { FetchedRecords } from "./records.js";
import { Writer, listOffsetsV7, protocolErrorsCodesById, type Connection, type Reader } from "./wire.js";

export interface PartitionReaderOptions {
  /** The longest that a fetch waits for its first record, milliseconds. */
  maxWaitMs?: number;
  /** A fetch also waits until there are this many bytes: latency traded for larger batches. */
  minBytes?: number;
  /** About how many bytes a fetch brings at most; a single larger batch still comes whole. */
  maxBytes?: number;
  /**
   * The topic to read, where a name may meanwhile refer to another one: whoever reads up to an offset of a topic would
   * wait in vain in the one that has its name now. @default null: the one that the name refers to at the first request
   */
  topicId?: string | null;
  /** How long trouble with the cluster is waited out before it is thrown to the caller. */
  patienceMs?: number;
  signal?: AbortSignal;
}

const READ_UNCOMMITTED = 0;
const READ_COMMITTED = 1;
const FETCH_API = 1;
/**
 * Names topics by their ids: a request for one topic is never answered by another one that has its name now. Supported
 * by brokers from 3.1 on.
 */
const FETCH_VERSION = 13;
/** The newest version that names topics by name, for a cluster whose topics have no ids. */
const FETCH_VERSION_BY_NAME = 12;
/** Requests by name are checked against the topic's id if it was last looked up longer ago than this. */
const IDENTITY_AGE_MS = 1_000;
const LATEST = -1n;
const EARLIEST = -2n;

interface FetchResponse {
  error: number;
  highWatermark: number;
  lastStableOffset: number;
  aborted: AbortedTransaction[];
  bytes: Buffer;
}

/**
 * Reads one partition, read_committed, from offsets that its user names: it has no group and no position of its own.
 * Follows the partition when its leader moves. One fetch at a time.
 *
 * It reads one topic, not whatever has its name: if the topic was deleted and created again, every call throws
 * `kafka_topic_recreated` until `acceptTopic` is called.
 */
export class PartitionReader implements OpenReader {
  readonly topic: string;
  readonly partition: number;
  readonly #cluster: KafkaCluster;
  readonly #maxWaitMs: number;
  readonly #minBytes: number;
  readonly #maxBytes: number;
  readonly #patienceMs: number;
  readonly #signal: AbortSignal | undefined;
  #connection: Connection | null = null;
  /** Shared by concurrent callers: a second connection would be closed by nobody. */
  #opening: Promise<Connection> | null = null;
  #leaderMoved = false;
  #closed = false;
  /** Null: not looked up yet. */
  #topicId: string | null;
  #waiting: OpenTransactionWait | null = null;

  constructor(cluster: KafkaCluster, topic: string, partition: number, options: PartitionReaderOptions = {}) {
    this.#cluster = cluster;
    this.topic = topic;
    this.partition = partition;
    this.#maxWaitMs = options.maxWaitMs ?? 500;
    this.#minBytes = options.minBytes ?? 1;
    this.#maxBytes = options.maxBytes ?? 1024 * 1024;
    this.#patienceMs = options.patienceMs ?? 30_000;
    this.#signal = options.signal;
    this.#topicId = options.topicId ?? null;
    cluster.readers.add(this);
  }

  /** Set while the last fetch could read no further because of a transaction that is still open. */
  get waiting(): OpenTransactionWait | null {
    return this.#waiting;
  }

  /** Id of the topic that is read; null: it has not been looked up yet. */
  get topicId(): string | null {
    return this.#topicId;
  }

  /** Reads the topic that has the name now. Offsets of the former topic mean nothing in it. */
  acceptTopic(): void {
    this.#topicId = null;
    this.#leaderMoved = true;
  }

  /**
   * The committed records from `offset` on; none if none came within the wait (`nextOffset` may still have moved).
   *
   * @throws KafkaError `kafka_offset_out_of_range` when the log no longer has that offset, or ends before it;
   *   `kafka_topic_recreated`
   */
  async fetch(offset: number): Promise<FetchedRecords> {
    const { topic, partition } = this;
    const response = await this.#asking(`fetching ${topic}[${partition}]`, (connection, doing) =>
      this.#fetchOnce(connection, offset, doing),
    );
    const { bytes, aborted, lastStableOffset, highWatermark } = response;
    const records = await readFetched({
      topic,
      partition,
      from: offset,
      bytes,
      aborted,
      lastStableOffset,
      highWatermark,
    });
    if (records.unread !== undefined) this.#cluster.reportUnread(records);
    this.#waiting = waitAfter(
      this.#waiting,
      { nextOffset: records.nextOffset, lastStableOffset, highWatermark },
      Date.now(),
    );
    return records;
  }

  /** The offset of the first record that is still in the log. */
  firstOffset(): Promise<number> {
    return this.#listOffset(EARLIEST);
  }

  /** What a read_committed reader can see ends before this offset (the last stable offset). */
  endOffset(): Promise<number> {
    return this.#listOffset(LATEST);
  }

  /** The end of what is written, whether it is committed or not. */
  writtenEnd(): Promise<number> {
    return this.#listOffset(LATEST, READ_UNCOMMITTED);
  }

  /** The first offset whose record's timestamp is at or after a time, or the end if there is none. */
  async offsetAt(timestamp: number): Promise<number> {
    const offset = await this.#listOffset(BigInt(timestamp));
    return offset < 0 ? this.endOffset() : offset;
  }

  /** Makes a fetch under way fail with an error. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cluster.readers.delete(this);
    await this.#drop();
  }

  async #listOffset(timestamp: bigint, isolation = READ_COMMITTED): Promise<number> {
    const { topic, partition } = this;
    return this.#asking(`listing offsets of ${topic}[${partition}]`, async (connection, doing) => {
      const topics = [{ name: topic, partitions: [{ partitionIndex: partition, currentLeaderEpoch: -1, timestamp }] }];
      const response = await call(connection, listOffsetsV7.api, [-1, isolation, topics], doing);
      // The request names the topic by name: the response may be about another one.
      this.#checkTopic((await this.#cluster.identityOf(topic, IDENTITY_AGE_MS)).topicId, doing);
      return Number(response.topics[0].partitions[0].offset);
    });
  }

  /** Asks the partition's leader, looking it up again when it has moved, and retries through passing trouble. */
  #asking<T>(doing: string, ask: (connection: Connection, doing: string) => Promise<T>): Promise<T> {
    return retry(
      async () => {
        if (this.#closed) throw new KafkaError("CLOSED", `${doing}: the reader is closed`, { retriable: false });
        try {
          const connection = await this.#leader(doing);
          return await ask(connection, doing);
        } catch (thrown) {
          const error = toKafkaError(thrown, doing);
          if (error.moved || error.code === "kafka_network") {
            this.#leaderMoved = true;
            await this.#drop();
          }
          if (this.#closed) throw new KafkaError("CLOSED", `${doing}: the reader is closed`, { retriable: false });
          throw error;
        }
      },
      { ...RETRY.kafkaRequest, forMs: this.#patienceMs },
      { signal: this.#signal, again: (error) => error instanceof KafkaError && error.retriable && !error.recreated },
    );
  }

  #checkTopic(topicId: string, doing: string): void {
    this.#topicId ??= topicId;
    if (topicId === this.#topicId || topicId === NO_TOPIC_ID || this.#topicId === NO_TOPIC_ID) return;
    throw new KafkaError(
      TOPIC_RECREATED,
      `${doing}: the topic was deleted and created again (its id was ${this.#topicId}, now it is ${topicId})`,
      { retriable: true },
    );
  }

  async #leader(doing: string): Promise<Connection> {
    if (this.#connection?.isConnected() && this.#topicId !== null) return this.#connection;
    this.#opening ??= this.#open(doing).finally(() => (this.#opening = null));
    return this.#opening;
  }

  async #open(doing: string): Promise<Connection> {
    await this.#drop();
    // What is known about the name may be older than the topic.
    const fresh = this.#leaderMoved || this.#topicId === null;
    const { address, topicId } = await this.#cluster.leaderAndTopic(this.topic, this.partition, fresh);
    this.#checkTopic(topicId, doing);
    this.#leaderMoved = false;
    const connection = await this.#cluster.open(address);
    this.#connection = connection;
    // Closed in the meantime: the caller gives up, and nobody else would close the connection.
    if (this.#closed) await this.#drop();
    return connection;
  }

  async #drop(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    await connection?.close();
  }

  async #fetchOnce(connection: Connection, offset: number, doing: string): Promise<FetchResponse> {
    const byId = this.#topicId !== null && this.#topicId !== NO_TOPIC_ID;
    const version = byId ? FETCH_VERSION : FETCH_VERSION_BY_NAME;
    const request = {
      key: FETCH_API,
      version,
      write: () => this.#request(offset, byId),
      read: (reader: Reader) => parseFetch(reader, byId),
    };
    const response = await send(connection, request, doing, this.#maxWaitMs + SILENT_AFTER_MS);
    if (response.error !== 0)
      throw protocolError(protocolErrorsCodesById[response.error as 0] ?? `CODE_${response.error}`, doing);
    return response;
  }

  #request(offset: number, byId: boolean): Writer {
    return Writer.create()
      .appendInt32(-1) // replica: a consumer
      .appendInt32(this.#maxWaitMs)
      .appendInt32(this.#minBytes)
      .appendInt32(this.#maxBytes)
      .appendInt8(READ_COMMITTED)
      .appendInt32(0) // session id and epoch: no session
      .appendInt32(-1)
      .appendArray([this.topic], (w, topic) => {
        if (byId) w.appendUUID(this.#topicId);
        else w.appendString(topic);
        w.appendArray([this.partition], (inner, partition) => {
          inner
            .appendInt32(partition)
            .appendInt32(-1)
            .appendInt64(BigInt(offset))
            .appendInt32(-1)
            .appendInt64(-1n)
            .appendInt32(this.#maxBytes);
        });
      })
      .appendArray([], () => {})
      .appendString("")
      .appendTaggedFields();
  }
}

/** A fetch response with its record batches as bytes rather than objects. */
function parseFetch(reader: Reader, byId: boolean): FetchResponse {
  reader.readInt32(); // throttle time
  const result: FetchResponse = {
    error: reader.readInt16(),
    highWatermark: -1,
    lastStableOffset: -1,
    aborted: [],
    bytes: Buffer.alloc(0),
  };
  reader.readInt32(); // session
  reader.readArray((topics) => {
    if (byId) topics.readUUID();
    else topics.readString();
    topics.readArray((r) => {
      r.readInt32(); // partition
      result.error ||= r.readInt16();
      result.highWatermark = Number(r.readInt64());
      result.lastStableOffset = Number(r.readInt64());
      r.readInt64(); // log start
      result.aborted =
        r.readNullableArray((entry) => ({ producerId: entry.readInt64(), firstOffset: Number(entry.readInt64()) })) ??
        [];
      r.readInt32(); // preferred replica
      const length = r.readUnsignedVarInt() - 1;
      if (length > 0) {
        result.bytes = r.buffer.slice(r.position, r.position + length);
        r.skip(length);
      }
    });
  });
  return result;
}
