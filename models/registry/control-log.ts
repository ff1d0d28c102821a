import type { BatchProducer } from "../../infra/kafka/batch-producer.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { waitOut } from "../../infra/wait-out.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { ControlEvent } from "../../schemas/generated.js";
import { ControlState, type EventBody } from "./control-state.js";

export interface ControlLogOptions {
  cluster: KafkaCluster;
  topic: string;
  schemas: Schemas;
  log: Logger;
  /** How long trouble with the cluster is waited out before it is the caller's, milliseconds. */
  patienceMs?: number;
}

/** What an author wants to have decided. */
export interface NewEvent { key: string; who: string; event: EventBody; /** The base that the author knew; what the fold has now when it isn't given. */ base?: number }

const PARTITION = 0;

/** The control topic and its fold, kept in memory by whoever needs it. */
export class ControlLog {
  readonly state = new ControlState();
  readonly #topic: string;
  readonly #schemas: Schemas;
  readonly #log: Logger;
  readonly #reader: PartitionReader;
  /** Offsets of accepted events: a later event of the same key may follow before its author looks. */
  readonly #accepted = new Set<number>();
  #next = 0;
  #reading: Promise<void> = Promise.resolve();
  #following: Promise<void> | null = null;
  readonly #closing = new AbortController();

  constructor({ cluster, topic, schemas, log, patienceMs = 30_000 }: ControlLogOptions) {
    this.#topic = topic;
    this.#schemas = schemas;
    this.#log = log;
    this.#reader = new PartitionReader(cluster, topic, PARTITION, { maxWaitMs: 200, patienceMs });
  }

  /** Offset of the next event to be read. */
  get position(): number {
    return this.#next;
  }

  /** Folds everything that the topic holds at the time of the call. */
  readToEnd(): Promise<void> {
    return this.#inTurn(async () => {
      const end = await this.#reader.endOffset();
      while (this.#next < end) await this.#fold();
    });
  }

  /** Folds until the event at an offset has been folded; it may stand behind a transaction that is still open. */
  async readPast(offset: number): Promise<void> {
    while (this.#next <= offset) await this.#inTurn(() => this.#fold());
  }

  /** Keeps folding what comes, through trouble that may pass; `onChange` is called after each event. Ends with `close`. */
  follow(onChange: (state: ControlState) => void, onFailure: (error: unknown) => void): void {
    this.#following ??= (async () => {
      while (!this.#closing.signal.aborted) {
        const before = this.#next;
        await this.#inTurn(() => this.#fold()).catch((error: unknown) => waitOut(error, this.#log, this.#closing.signal));
        if (this.#next > before) onChange(this.state);
      }
    })().catch((error: unknown) => {
      if (!this.#closing.signal.aborted) onFailure(error);
    });
  }

  /**
   * Publishes an event and reads on until it has been folded.
   *
   * @returns the event's offset
   * @throws FraudstreamError `conflict` when the fold refused it, since somebody else decided first
   */
  async append(producer: BatchProducer, { key, who, event, base }: NewEvent): Promise<number> {
    const value: ControlEvent = { key, base: base ?? this.state.baseOf(key), at: Date.now(), who, event };
    const offset = await producer.publishTo(this.#topic, PARTITION, [{ key: Buffer.from(key), value: this.#schemas.encode("control", value) }]);
    await this.readPast(offset);
    if (!this.#accepted.has(offset)) {
      throw new FraudstreamError("conflict", `${key} was changed by somebody else in the meantime; look at it again and repeat`);
    }
    return offset;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#reader.close();
    await this.#following;
  }

  /** One fetch at a time, whoever asks. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#reading.then(work);
    this.#reading = done.catch(() => {});
    return done;
  }

  async #fold(): Promise<void> {
    const records = await this.#reader.fetch(this.#next);
    for (let i = 0; i < records.count; i++) {
      const at = records.valueAt[i];
      const value = records.bytes.subarray(at, at + Math.max(0, records.valueLength[i]));
      const offset = records.offset[i];
      try {
        const event = (await this.#schemas.decode("control", value)) as ControlEvent;
        if (this.state.apply(event, offset)) this.#accepted.add(offset);
        else this.#log.warn({ offset, key: event.key }, "a control event was refused: its base is not the key's last event");
      } catch (error) {
        if (error instanceof FraudstreamError && error.retriable) throw error;
        this.#log.error({ offset }, `a control event was left out: ${messageOf(error)}`);
      }
      // An event whose schema couldn't be had yet is read again, so the position moves with each event.
      this.#next = offset + 1;
    }
    this.#next = records.nextOffset;
  }
}
