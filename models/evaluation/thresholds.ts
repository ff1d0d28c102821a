import { UsageError } from "../../schemas/errors.js";
import type { Ranking } from "./ranking.js";

/** The decline threshold of a model that may not decline: above every score, which is a probability. */
export const NEVER = 2;

/**
 * What a threshold stands below its score: the same model's scores differ by less than this between runtimes and batch
 * sizes (a model is accepted only if so), and rows that tie at the threshold must not change sides with the last bit.
 */
const TOLERANCE = 1e-5;

export interface ThresholdOptions {
  /** Share of the transactions that people can look at. @default 0.005 */
  reviewCapacity?: number;
  /** Least share of frauds among the transactions to be declined. @default 0.9 */
  declinePrecision?: number;
}

/** @throws UsageError `bad_threshold` for a share that is none */
export function checkThresholdOptions({ reviewCapacity = 0.005, declinePrecision = 0.9 }: ThresholdOptions): Required<ThresholdOptions> {
  if (!(reviewCapacity > 0 && reviewCapacity <= 1)) throw new UsageError("bad_threshold", `the review capacity is ${reviewCapacity}; it must be a share of the transactions, over 0 and up to 1`);
  if (!(declinePrecision > 0 && declinePrecision <= 1)) throw new UsageError("bad_threshold", `the decline precision is ${declinePrecision}; it must be over 0 and up to 1`);
  return { reviewCapacity, declinePrecision };
}

/**
 * Chooses thresholds on rows that the model was not trained on. `review`: the lowest score that keeps alerts within the
 * capacity, or the highest score where even that one alone exceeds it. `decline`: the lowest score at or above `review`
 * whose alerts have the precision; `NEVER` where none has.
 */
export function chooseThresholds(ranking: Ranking, options: ThresholdOptions = {}): { review: number; decline: number } {
  const { reviewCapacity, declinePrecision } = checkThresholdOptions(options);
  const capacity = Math.max(1, Math.floor(reviewCapacity * ranking.rows));
  let review = 0;
  while (review + 1 < ranking.alerts.length && ranking.alerts[review + 1] <= capacity) review += 1;
  let decline = review;
  while (decline >= 0 && ranking.caught[decline] < declinePrecision * ranking.alerts[decline]) decline -= 1;
  return { review: below(ranking, review), decline: decline < 0 ? NEVER : below(ranking, decline) };
}

/** Lower than the group's score, but never as low as half-way to the next one. */
function below({ scores }: Ranking, group: number): number {
  const score = scores[group];
  const next = group + 1 < scores.length ? scores[group + 1] : 0;
  return score - Math.min((score - next) / 2, TOLERANCE);
}
