import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { reposition } from "../../infra/kafka/reposition.js";
import { readHeaders, type FetchedRecords } from "../../infra/kafka/records.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import type { ErrorCode } from "../../schemas/error-codes.js";
import { messageOf } from "../../schemas/errors.js";
import type { Prediction } from "../../schemas/generated.js";
import type { Topics } from "../../schemas/topics.js";

/** What became of a transaction that was asked about. */
export type Outcome =
  { kind: "prediction"; prediction: Prediction } | { kind: "dead-letter"; code: ErrorCode; reason: string };

export interface ReplyListenerOptions {
  cluster: KafkaCluster;
  topics: Topics;
  schemas: Schemas;
  log: Logger;
  /** Of this API copy; begins every reply-to. */ copy: string;
}

const PAUSE_MS = 500;

/**
 * Reads predictions and dead letters as they are committed and hands out those that this API copy asked for, by their
 * reply-to header. Records of others are passed over without being decoded.
 */
export class ReplyListener {
  /** Of this API copy; begins every reply-to. */
  readonly copy: string;
  readonly #options: ReplyListenerOptions;
  readonly #prefix: Buffer;
  readonly #waiting = new Map<string, (outcome: Outcome) => void>();
  readonly #readers: PartitionReader[] = [];
  readonly #loops: Promise<void>[] = [];
  #onLate: (replyTo: string) => void = () => {};
  #closed = false;

  constructor(options: ReplyListenerOptions) {
    this.#options = options;
    this.copy = options.copy;
    this.#prefix = Buffer.from(`${options.copy}/`);
  }

  /** Resolves when every partition's position is fixed: from then on no answer can be missed. */
  async start(): Promise<void> {
    const { cluster, topics } = this.#options;
    const starting: Promise<void>[] = [];
    for (const topic of [topics.predictions, topics.deadLetters]) {
      for (let partition = 0; partition < topic.partitions; partition++) {
        const reader = new PartitionReader(cluster, topic.name, partition);
        this.#readers.push(reader);
        starting.push(
          reader
            .endOffset()
            .then((end) => void this.#loops.push(this.#read(reader, end, topic === topics.predictions))),
        );
      }
    }
    await Promise.all(starting);
  }

  /**
   * The outcomes of the records that carry these reply-tos (`copy/…`), in their order; null of those that haven't come
   * when the wait is over. To be called before the records are published.
   */
  expect(replyTos: readonly string[], waitMs: number): Promise<(Outcome | null)[]> {
    return new Promise((resolve) => {
      const outcomes: (Outcome | null)[] = replyTos.map(() => null);
      let open = replyTos.length;
      const timer = setTimeout(() => {
        for (const replyTo of replyTos) this.#waiting.delete(replyTo);
        resolve(outcomes);
      }, waitMs);
      for (const [i, replyTo] of replyTos.entries()) {
        this.#waiting.set(replyTo, (outcome) => {
          outcomes[i] = outcome;
          if (--open > 0) return;
          clearTimeout(timer);
          resolve(outcomes);
        });
      }
    });
  }

  /** Called with the reply-to of each outcome that arrives after its caller has stopped waiting. */
  onLate(came: (replyTo: string) => void): void {
    this.#onLate = came;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#readers.map((reader) => reader.close()));
    await Promise.all(this.#loops);
  }

  async #read(reader: PartitionReader, from: number, predictions: boolean): Promise<void> {
    for (let offset = from; !this.#closed;) {
      try {
        const records = await reader.fetch(offset);
        for (let i = 0; i < records.count; i++) await this.#look(records, i, predictions);
        offset = records.nextOffset;
      } catch (error) {
        if (this.#closed) return;
        this.#options.log.warn(`answers can't be read at the moment: ${messageOf(error)}`);
        // What retention has deleted was answered (202) long ago.
        offset =
          (await reposition({ cluster: this.#options.cluster, reader, next: offset, error }).catch(() => null)) ??
          offset;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }

  async #look(records: FetchedRecords, index: number, isPrediction: boolean): Promise<void> {
    const { bytes, headersAt, valueAt, valueLength } = records;
    if (bytes[headersAt[index]] === 0) return; // no headers
    const headers = readHeaders(records, index);
    const replyTo = headers.find(([name]) => name === "reply-to")?.[1];
    if (replyTo === null || replyTo === undefined || !replyTo.subarray(0, this.#prefix.length).equals(this.#prefix))
      return;
    const key = replyTo.toString();
    const resolve = this.#waiting.get(key);
    if (resolve === undefined) return this.#onLate(key);
    this.#waiting.delete(key);
    if (isPrediction) {
      const value = bytes.subarray(valueAt[index], valueAt[index] + valueLength[index]);
      resolve({
        kind: "prediction",
        prediction: (await this.#options.schemas.decode("predictions", value)) as Prediction,
      });
      return;
    }
    const header = (wanted: string): string => headers.find(([name]) => name === wanted)?.[1]?.toString() ?? "";
    // A worker of another version may have a code that this one does not know; it is passed on.
    resolve({ kind: "dead-letter", code: header("code") as ErrorCode, reason: header("reason") });
  }
}

/** The header that carries a reply-to, as `encodeHeaders` takes it. */
export function replyToHeader(replyTo: string): [string, string] {
  return ["reply-to", replyTo];
}
