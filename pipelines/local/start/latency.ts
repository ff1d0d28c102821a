/** Neighbouring buckets differ by this factor: quantiles are right to 2%. */
const STEP = 1.02;
const LOG_STEP = Math.log(STEP);
/** Up to about 20 hours. */
const BUCKETS = 920;

/** Counts of latencies in buckets that grow with them: fixed memory, however many there are. */
export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;

  /** @param ms milliseconds; less than one counts as one */
  add(ms: number): void {
    const bucket = Math.min(BUCKETS - 1, Math.ceil(Math.log(Math.max(1, ms)) / LOG_STEP));
    this.#counts[bucket] += 1;
    this.#count += 1;
  }

  get count(): number {
    return this.#count;
  }

  /** The least latency, in milliseconds, that `share` of them don't exceed; null when there are none. */
  quantile(share: number): number | null {
    if (this.#count === 0) return null;
    let left = Math.max(1, Math.ceil(share * this.#count));
    for (let bucket = 0; ; bucket++) {
      left -= this.#counts[bucket];
      if (left <= 0 || bucket === BUCKETS - 1) return STEP ** bucket;
    }
  }
}
