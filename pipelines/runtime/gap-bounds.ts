import { addGaps, type Gap, type OffsetMark } from "../../infra/kafka/offset-mark.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import { LATENESS_MS, RETENTION_MS } from "../../models/features/history-terms.js";
import { CLOCK_SKEW_MS } from "../../schemas/transaction-reader.js";

/** Producers' clocks differ: a record may be stamped earlier than one before it in the log, by less than this. */
export const STAMP_DISORDER_MS = 3_600_000;
/** How many transactions after a gap it takes to tell how far the stream's own time had come. */
const TELLING_ROWS = 256;
/** One in ten may be a stray, far ahead of the others. */
const BELOW_STRAYS = 0.9;

/**
 * Until when, in event time, the records of a partition's gaps can have happened: windows that begin before that may
 * miss some of them. There are two bounds, and the lower one counts:
 *
 * - No transaction is further ahead of its record's time than the skew, and what was lost came before what is left.
 *   This bound is known at once, and is exact for a stream of current data. In a stream of old data, windows would
 *   begin before it until the end.
 * - Transactions more than LATENESS_MS older than those before them are late, and stale in any case. So what was lost
 *   is at most that much newer than what follows it: known once a few hundred transactions have arrived, some of which
 *   may be strays.
 *
 * The bounds are kept in the mark of the tenure, so they are committed with each offset.
 */
export class GapBounds {
  readonly #mark: OffsetMark;
  readonly #times = new Float64Array(TELLING_ROWS);
  #told = 0;

  constructor(mark: OffsetMark) {
    this.#mark = mark;
  }

  /** No lost transaction is later than this, epoch milliseconds; -Infinity: none is known to be lost. */
  get until(): number {
    return this.#mark.gaps.reduce(
      (latest, { until }) => Math.max(latest, until ?? Number.POSITIVE_INFINITY),
      Number.NEGATIVE_INFINITY,
    );
  }

  /**
   * To be called before the next records are folded and their offset is committed. @param clock the partition's current
   * clock
   */
  meet(records: Pick<FetchedRecords, "timestamp">, clock: number, now: number): void {
    if (this.#mark.gaps.every(({ until }) => until !== null)) return;
    const byStamp = Math.min(records.timestamp[0], now) + CLOCK_SKEW_MS + STAMP_DISORDER_MS;
    const until = Math.max(byStamp, clock + LATENESS_MS);
    this.#mark.gaps = this.#mark.gaps.map((gap) => (gap.until === null ? { ...gap, until } : gap));
  }

  /** To be called after a batch has been committed. @param clock the partition's clock after the batch */
  committed({ eventTime, length }: { eventTime: Float64Array; length: number }, clock: number): void {
    if (this.#mark.gaps.length === 0) return;
    for (let row = 0; row < length && this.#told < TELLING_ROWS; row++) {
      if (eventTime[row] < clock - LATENESS_MS) continue;
      this.#times[this.#told++] = eventTime[row];
      if (this.#told === TELLING_ROWS)
        this.#lower(this.#times.sort()[Math.floor(TELLING_ROWS * BELOW_STRAYS)] + LATENESS_MS);
    }
    // No window reaches back that far.
    this.#mark.gaps = this.#mark.gaps.filter(({ until }) => until === null || until > clock - RETENTION_MS);
  }

  #lower(bound: number): void {
    // Lost labels (below 0) belong to another topic: the transactions that follow say nothing about them.
    this.#mark.gaps = this.#mark.gaps.map((gap) =>
      gap.from < 0 ? gap : { ...gap, until: Math.min(gap.until ?? Infinity, bound) },
    );
  }
}

/** As part of a snapshot: three numbers per gap. */
export function gapNumbers(gaps: readonly Gap[]): Float64Array {
  return Float64Array.from(gaps.flatMap(({ from, to, until }) => [from, to, until ?? Number.NaN]));
}

/** Adds the gaps of a snapshot to a mark: Kafka may have forgotten what was committed. */
export function addGapNumbers(mark: OffsetMark, numbers: ArrayLike<number>): void {
  for (let i = 0; i + 2 < numbers.length; i += 3)
    addGaps(mark, [
      { from: numbers[i], to: numbers[i + 1], until: Number.isNaN(numbers[i + 2]) ? null : numbers[i + 2] },
    ]);
}

/** A range of offsets without those that are known to be lost: nothing is left of these. */
export function withoutGaps(from: number, to: number, gaps: readonly Gap[]): { from: number; to: number }[] {
  const stretches: { from: number; to: number }[] = [];
  let next = from;
  for (const gap of [...gaps].sort((a, b) => a.from - b.from)) {
    if (gap.to <= next || gap.from >= gap.to) continue;
    if (gap.from >= to) break;
    if (gap.from > next) stretches.push({ from: next, to: gap.from });
    next = gap.to;
  }
  if (next < to) stretches.push({ from: next, to });
  return stretches;
}
