import { RecordBatchBuilder } from "./record-batch-builder.js";

/** A batch is closed at this size: brokers and topics accept 1 MiB unless configured otherwise. */
const CLOSE_BATCH_AT_BYTES = 900 * 1024;

/**
 * The records that one transaction writes to one partition, as one or more record batches below the usual limit. Its
 * buffers are reused for the next transaction.
 */
export class PartitionOutput {
  readonly topic: string;
  readonly partition: number;
  readonly #batches: RecordBatchBuilder[] = [new RecordBatchBuilder()];
  #open = 0;

  constructor(topic: string, partition: number) {
    this.topic = topic;
    this.partition = partition;
  }

  /** Records so far. */
  get count(): number {
    let count = 0;
    for (let i = 0; i <= this.#open; i++) count += this.#batches[i].count;
    return count;
  }

  /** The batches that hold records, in order. */
  get batches(): readonly RecordBatchBuilder[] {
    return this.#batches.slice(0, this.#open + 1).filter((batch) => batch.count > 0);
  }

  /** @param headers as `encodeHeaders` gives them; null: none */
  append(key: Uint8Array | null, value: Uint8Array | null, headers: Uint8Array | null = null): void {
    const batch = this.#batches[this.#open];
    const more = (key?.length ?? 0) + (value?.length ?? 0) + (headers?.length ?? 0);
    if (batch.count > 0 && batch.length + more > CLOSE_BATCH_AT_BYTES) {
      this.#open++;
      if (this.#open === this.#batches.length) this.#batches.push(new RecordBatchBuilder());
    }
    this.#batches[this.#open].append(key, value, headers);
  }

  /** Forgets the records and keeps the buffers. */
  reset(): void {
    for (const batch of this.#batches) batch.reset();
    this.#open = 0;
  }
}
