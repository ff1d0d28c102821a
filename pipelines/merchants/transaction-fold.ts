import type { FetchedRecords } from "../../infra/kafka/records.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { BucketBuilder, EmitBucket } from "../../models/features/bucket-builder.js";
import { TransactionReader, type CardIds } from "../../schemas/transaction-reader.js";
import { forwardTo } from "../transactions/placement.js";
import { decodeTransactions, learnSchemas } from "../transactions/decode-transactions.js";
import { TransactionBatch } from "../transactions/transaction-batch.js";

const NONE: ReadonlySet<number> = new Set();

/** Folds a partition's records into its unsealed buckets, as scoring reads them but without any model's attributes. */
export class TransactionFold {
  readonly #schemas: Schemas;
  readonly #partitions: number;
  readonly #builder: BucketBuilder;
  /** What was decoded last. */
  readonly batch = new TransactionBatch([]);
  readonly #reader: TransactionReader;
  #records: FetchedRecords | null = null;
  /** Records that are not valid transactions. */
  rejected = 0;
  /** Transactions whose card belongs to another partition: they count there. */
  misplaced = 0;

  constructor(schemas: Schemas, partitions: number, builder: BucketBuilder, cards: CardIds | null) {
    this.#reader = new TransactionReader(this.batch, cards, schemas.shapes.transactions);
    this.#schemas = schemas;
    this.#partitions = partitions;
    this.#builder = builder;
  }

  /**
   * Reads a batch. Transactions that are ahead of the clock are refused, as scoring refuses them.
   *
   * @param refused offsets that scoring refused for that reason; they may no longer be ahead
   * @returns the batch's newest event time, -Infinity if it has none
   */
  async decode(records: FetchedRecords, refused: ReadonlySet<number> = NONE): Promise<number> {
    const batch = this.batch;
    await learnSchemas(records, this.#reader, this.#schemas);
    const without = new Set<number>();
    if (refused.size > 0)
      for (let record = 0; record < records.count; record++)
        if (refused.has(records.offset[record])) without.add(record);
    this.rejected +=
      without.size + decodeTransactions(records, this.#reader, batch, { without, now: Date.now() }).length;
    this.#records = records;
    let newest = Number.NEGATIVE_INFINITY;
    for (let row = 0; row < batch.length; row++)
      if (batch.eventTime[row] > newest && this.#isHere(row)) newest = batch.eventTime[row];
    return newest;
  }

  /** Adds the transactions that were read, each after sealing what it closes. @param before offset at which to stop */
  apply(emit: EmitBucket, before = Number.POSITIVE_INFINITY): void {
    const batch = this.batch;
    const builder = this.#builder;
    const { offset } = this.#records as FetchedRecords;
    for (let row = 0; row < batch.length; row++) {
      if (offset[batch.record[row]] >= before) break;
      if (!this.#isHere(row)) {
        this.misplaced++;
        continue;
      }
      builder.sealAndAdd(batch, row, emit);
    }
    this.#records = null;
  }

  #isHere(row: number): boolean {
    const batch = this.batch;
    return (
      forwardTo(
        this.#records as FetchedRecords,
        batch.record[row],
        this.#partitions,
        batch.bytes[row],
        batch.cardIdAt[row],
        batch.cardIdLength[row],
      ) < 0
    );
  }
}
