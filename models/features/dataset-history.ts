import type { Dataset } from "../datasets/dataset.js";
import { BucketBuilder } from "./bucket-builder.js";
import { CardHistory } from "./card-history.js";
import type { HistoryRows } from "./history-rows.js";
import type { HistoryPlan } from "./history-plan.js";
import { BUCKET_MS, LABEL_DELAY_MS, LATENESS_MS, LONGEST_WINDOW_MS } from "./history-terms.js";
import { MerchantWindows } from "./merchant-windows.js";

/** Buckets that a window of the newest transaction, or of a late one, can reach. */
const KEPT_BUCKETS = (LONGEST_WINDOW_MS + LATENESS_MS) / BUCKET_MS;

/**
 * Folds a data set in its order, as the stream folds one partition: cards in CardHistory, merchants through the buckets
 * that BucketBuilder seals and MerchantWindows adds up.
 */
export class DatasetHistory {
  readonly #dataset: Dataset;
  readonly #plan: HistoryPlan;
  readonly #cards = new CardHistory();
  readonly #builder = new BucketBuilder();
  readonly #merchants = new MerchantWindows(1);
  readonly #rows = new DatasetRows();

  constructor(dataset: Dataset, plan: HistoryPlan) {
    this.#dataset = dataset;
    this.#plan = plan;
  }

  /**
   * Folds the rows from ≤ row < to, which are to follow those of the call before.
   *
   * @param out the rows' values, `plan.size` each; NaN for a repeat
   * @param onRepeat takes rows that the stream refuses: the same transaction id of a card within the horizon
   */
  fold(from: number, to: number, out: Float64Array, onRepeat: (row: number) => void = () => undefined): void {
    const plan = this.#plan;
    const rows = this.#rows;
    rows.fill(this.#dataset, from, to);
    for (let i = 0, at = 0; from + i < to; i++, at += plan.size) {
      if (plan.needsMerchants) this.#sealAndAdd(rows, i);
      const folded = this.#cards.fold(rows, i, from + i, plan, this.#merchants, out, at);
      if (folded >= 0) {
        out.fill(Number.NaN, at, at + plan.size);
        onRepeat(from + i);
        continue;
      }
      if (!plan.needsMerchants) continue;
      this.#merchants.lookup(rows, i, plan, out, at);
      if (this.#dataset.label[from + i] === 1)
        this.#label(rows, i, this.#dataset.labelTime?.[from + i] ?? rows.eventTime[i] + LABEL_DELAY_MS);
    }
    this.#cards.commit();
  }

  /** What a transaction seals is there for its own windows, as where the merchants role is ahead of scoring. */
  #sealAndAdd(rows: DatasetRows, i: number): void {
    const before = this.#builder.sealed;
    this.#builder.sealAndAdd(rows, i, (kind, id, bucket, count, frauds) =>
      this.#merchants.add(kind, id, 0, id.length, 0, bucket, count, frauds),
    );
    const { sealed } = this.#builder;
    if (sealed === before) return;
    this.#merchants.watermark(0, sealed);
    this.#merchants.evict(sealed - KEPT_BUCKETS - 2);
  }

  #label(
    { bytes, cardIdAt, cardIdLength, transactionIdAt, transactionIdLength }: DatasetRows,
    i: number,
    time: number,
  ): void {
    if (!Number.isNaN(time))
      this.#builder.label(
        bytes[i],
        cardIdAt[i],
        cardIdLength[i],
        transactionIdAt[i],
        transactionIdLength[i],
        true,
        time,
      );
  }
}

/** Rows of a data set as the stream has them: ids as bytes. */
class DatasetRows implements HistoryRows {
  eventTime = new Float64Array(0);
  amount = new Float64Array(0);
  bytes: Buffer[] = [];
  cardIdAt = new Int32Array(0);
  cardIdLength = new Int32Array(0);
  merchantIdAt = new Int32Array(0);
  merchantIdLength = new Int32Array(0);
  transactionIdAt = new Int32Array(0);
  transactionIdLength = new Int32Array(0);
  #text = Buffer.alloc(0);
  #used = 0;

  fill(dataset: Dataset, from: number, to: number): void {
    this.#reserve(dataset, from, to);
    for (let i = 0, row = from; row < to; i++, row++) {
      this.eventTime[i] = dataset.eventTime[row];
      this.amount[i] = dataset.amount[row];
      this.#write(dataset.cardId[row], this.cardIdAt, this.cardIdLength, i);
      this.#write(dataset.merchantId[row], this.merchantIdAt, this.merchantIdLength, i);
      this.#write(dataset.transactionId[row], this.transactionIdAt, this.transactionIdLength, i);
    }
  }

  #write(text: string, at: Int32Array, length: Int32Array, i: number): void {
    at[i] = this.#used;
    length[i] = this.#text.write(text, this.#used);
    this.#used += length[i];
  }

  #reserve(dataset: Dataset, from: number, to: number): void {
    let units = 0;
    for (let row = from; row < to; row++)
      units += dataset.cardId[row].length + dataset.merchantId[row].length + dataset.transactionId[row].length;
    this.#used = 0;
    // A unit of UTF-16 takes three bytes of UTF-8 at most.
    if (3 * units > this.#text.length) this.#text = Buffer.alloc(4 * units);
    const rows = to - from;
    if (rows > this.eventTime.length) {
      this.eventTime = new Float64Array(rows);
      this.amount = new Float64Array(rows);
      for (const column of [
        "cardIdAt",
        "cardIdLength",
        "merchantIdAt",
        "merchantIdLength",
        "transactionIdAt",
        "transactionIdLength",
      ] as const)
        this[column] = new Int32Array(rows);
    }
    this.bytes = new Array<Buffer>(this.eventTime.length).fill(this.#text);
  }
}
