import { Turns } from "../async/turns.js";
import type { KafkaCluster } from "./cluster.js";
import { KafkaError, LOG_CUT_OFF, TOPIC_RECREATED } from "./errors.js";
import type { PartitionReader } from "./partition-reader.js";
import type { FetchedRecords } from "./records.js";

/**
 * A partition whose fold is kept in memory and must not change by accident: if the topic is created again, or its log
 * has lost its end, what was read of it stays. Reported as an incident.
 */
export class KeptLog {
  readonly #cluster: KafkaCluster;
  readonly #reader: PartitionReader;
  readonly #consequence: string;
  #replaced: string | null = null;
  readonly #turns = new Turns();

  /** @param consequence of a replaced log: what it means, and what to do */
  constructor(cluster: KafkaCluster, reader: PartitionReader, consequence: string) {
    this.#cluster = cluster;
    this.#reader = reader;
    this.#consequence = consequence;
  }

  /**
   * Why the topic no longer holds what was read of it (created again, or its end is lost); null: it does, as of the
   * last fetch.
   */
  get replaced(): string | null {
    return this.#replaced;
  }

  endOffset(): Promise<number> {
    return this.#reader.endOffset();
  }

  /**
   * @throws KafkaError `replaced` and retriable, so that the role continues with what it knows; or whatever the reader
   *   throws
   */
  async fetch(offset: number): Promise<FetchedRecords> {
    try {
      const records = await this.#reader.fetch(offset);
      this.#replaced = null;
      return records;
    } catch (error) {
      const kept = await this.#keepWhatWasRead(error);
      if (kept instanceof KafkaError && kept.replaced) this.#replaced = kept.message;
      throw kept;
    }
  }

  /** Runs one fold at a time, for all callers. */
  inTurn(work: () => Promise<void>): Promise<void> {
    return this.#turns.take(work);
  }

  close(): Promise<void> {
    return this.#reader.close();
  }

  async #keepWhatWasRead(error: unknown): Promise<unknown> {
    if (!(error instanceof KafkaError)) return error;
    const { topic, partition } = this.#reader;
    if (error.recreated) {
      const message = `${error.message}. ${this.#consequence}`;
      this.#cluster.incidents.report({ kind: "recreated", topic, partition, lost: 0, message });
      return new KafkaError(TOPIC_RECREATED, message, { retriable: true, cause: error });
    }
    if (error.code !== "kafka_offset_out_of_range") return error;
    const message =
      `${topic}[${partition}]: the log ends at offset ${await this.#reader.writtenEnd()}, before what has been ` +
      `read of it: records were lost. ${this.#consequence}`;
    this.#cluster.incidents.report({ kind: "cut_off", topic, partition, lost: 0, message });
    return new KafkaError(LOG_CUT_OFF, message, { retriable: true, cause: error });
  }
}
