import type { BatchProducer } from "../../infra/kafka/batch-producer.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { KeptLog } from "../../infra/kafka/kept-log.js";
import { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { readHeaders, type FetchedRecords } from "../../infra/kafka/records.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { waitOut } from "../../infra/async/retry.js";
import { FraudstreamError, UsageError, messageOf } from "../../schemas/errors.js";
import type { ControlEvent } from "../../schemas/generated.js";
import type { EntityEvent } from "./events.js";
import { ControlState } from "./state.js";

export interface ControlLogOptions {
  cluster: KafkaCluster;
  topic: string;
  schemas: Schemas;
  log: Logger;
  /** How long trouble with the cluster is waited out before it is thrown to the caller, milliseconds. */
  patienceMs?: number;
}

/** A decision that an author wants to publish. */
export interface NewEvent extends EntityEvent {
  who: string;
  /** The base that the author knew; the fold's current one if not given. */ base?: number;
}

const PARTITION = 0;
/**
 * Header of an event: its sequence number, which grows with the events of its key and doesn't depend on the event's
 * position in the log. It is a header because the schema has a fixed id: versions that don't know it read the event as
 * before.
 */
const SEQUENCE = "fraudstream-sequence";
const REPLACED =
  "What was decided before stays in force here until this process is started again, and nothing can be " +
  "decided until then: restore the topic, or restart every role and decide again";

/** The control topic and its fold, kept in memory by each role that needs it. */
export class ControlLog {
  readonly state = new ControlState();
  readonly #topic: string;
  readonly #schemas: Schemas;
  readonly #log: Logger;
  readonly #kept: KeptLog;
  /** Offsets of accepted events: a later event of the same key may follow before the event's author looks. */
  readonly #accepted = new Set<number>();
  #next = 0;
  #following: Promise<void> | null = null;
  readonly #closing = new AbortController();

  constructor({ cluster, topic, schemas, log, patienceMs = 30_000 }: ControlLogOptions) {
    this.#topic = topic;
    this.#schemas = schemas;
    this.#log = log;
    this.#kept = new KeptLog(
      cluster,
      new PartitionReader(cluster, topic, PARTITION, { maxWaitMs: 200, patienceMs }),
      REPLACED,
    );
  }

  /** Offset of the next event to be read. */
  get position(): number {
    return this.#next;
  }

  /**
   * Why nothing can be decided: the topic no longer holds what was read of it (created again, or its end is lost).
   * Null: it does.
   */
  get replaced(): string | null {
    return this.#kept.replaced;
  }

  /** Folds everything that the topic holds at the time of the call. */
  readToEnd(): Promise<void> {
    return this.#kept.inTurn(async () => {
      const end = await this.#kept.endOffset();
      if (end < this.#next) return this.#fold();
      while (this.#next < end) await this.#fold();
    });
  }

  /**
   * Folds everything that the topic holds: what a role has to know before it begins.
   *
   * @throws UsageError `control_inconsistent` if that would put an older model in force than was decided
   */
  async open(): Promise<void> {
    await this.readToEnd();
    const refused = this.state.unexplainedRefusal;
    if (refused === null) return;
    throw new UsageError(
      "control_inconsistent",
      `${this.#topic}: the deployment that ${refused.who} decided at ${new Date(refused.at).toISOString()} ` +
        `(offset ${refused.offset}) ` +
        ("can't be applied: the topic lacks the events before it, or events of two clusters are mixed in it. " +
          "Starting would put an older model in force. ") +
        ("Delete the topic and copy it whole from its source before any role starts, or delete it and " +
          "register and deploy the models again"),
    );
  }

  /** Folds until the event at an offset has been folded; it may be behind a transaction that is still open. */
  async readPast(offset: number): Promise<void> {
    while (this.#next <= offset) await this.#kept.inTurn(() => this.#fold());
  }

  /** Keeps folding new events, through passing trouble; calls `onChange` after each event. Ends with `close`. */
  follow(onChange: (state: ControlState) => void, onFailure: (error: unknown) => void): void {
    this.#following ??= (async () => {
      while (!this.#closing.signal.aborted) {
        const before = this.#next;
        await this.#kept
          .inTurn(() => this.#fold())
          .catch((error: unknown) => waitOut(error, this.#log, this.#closing.signal));
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
   * @throws FraudstreamError `conflict` if the fold refused it because another decision came first
   */
  async append(producer: BatchProducer, { key, who, event, base }: NewEvent): Promise<number> {
    const value: ControlEvent = { key, base: base ?? this.state.baseOf(key), at: Date.now(), who, event };
    // Not into a log other than the one that was folded: others would read the event, and its author would get an
    // error.
    await this.readToEnd();
    const sequence = this.state.nextSequence(key, this.#next);
    const headers = encodeHeaders([[SEQUENCE, String(sequence)]]);
    const offset = await producer.publishTo(this.#topic, PARTITION, [
      { key: Buffer.from(key), value: this.#schemas.encode("control", value), headers },
    ]);
    await this.readPast(offset);
    if (!this.#accepted.has(offset)) {
      throw new FraudstreamError("conflict", `${key} was changed in the meantime; look at it again and repeat`);
    }
    return offset;
  }

  /** An output of a caller's own Kafka transaction, for events that are published together with other records. */
  output(): PartitionOutput {
    return new PartitionOutput(this.#topic, PARTITION);
  }

  /** Appends an event to an `output`. It is in force once the transaction has been committed and the event folded. */
  appendTo(output: PartitionOutput, { key, who, event, base, at }: Required<NewEvent> & { at: number }): void {
    output.append(
      Buffer.from(key),
      this.#schemas.encode("control", { key, base, at, who, event } satisfies ControlEvent),
    );
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#kept.close();
    await this.#following;
  }

  async #fold(): Promise<void> {
    const records = await this.#kept.fetch(this.#next);
    for (let i = 0; i < records.count; i++) {
      const at = records.valueAt[i];
      const value = records.bytes.subarray(at, at + Math.max(0, records.valueLength[i]));
      const offset = records.offset[i];
      try {
        const event = (await this.#schemas.decode("control", value)) as ControlEvent;
        if (this.state.apply(event, offset, sequenceOf(records, i))) this.#accepted.add(offset);
        else
          this.#log.warn(
            { offset, key: event.key },
            "a control event was refused: its base is not the key's last event",
          );
      } catch (error) {
        if (error instanceof FraudstreamError && error.retriable) throw error;
        this.#log.error({ offset }, `a control event was left out: ${messageOf(error)}`);
      }
      // An event whose schema isn't available yet is read again, so the position moves with each event.
      this.#next = offset + 1;
    }
    this.#next = records.nextOffset;
  }
}

/** The sequence number of a record; null: it has none. */
function sequenceOf(records: FetchedRecords, index: number): number | null {
  const value =
    readHeaders(records, index)
      .find(([name]) => name === SEQUENCE)?.[1]
      ?.toString() ?? "";
  return /^\d{1,15}$/.test(value) ? Number(value) : null;
}
