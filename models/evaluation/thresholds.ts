import { RequestError } from "../../schemas/errors.js";
import type { Ranking } from "./ranking.js";

/** The decline threshold of a model that may not decline: above every score, which is a probability. */
export const NEVER = 2;

/**
 * What a threshold stands below its score: the same model's scores differ by less than this between runtimes and batch
 * sizes (a model is accepted only if so), and rows that tie at the threshold must not change sides with the last bit.
 */
const TOLERANCE = 1e-5;

export const DEFAULT_REVIEW_CAPACITY = 0.005;
export const DEFAULT_DECLINE_PRECISION = 0.9;

export interface ThresholdOptions {
  /**
   * Share of the transactions that people can look at: the alerts to review, beside what is declined. @default 0.005
   */
  reviewCapacity?: number;
  /** Least share of frauds among the transactions to be declined. @default 0.9 */
  declinePrecision?: number;
}

/** @throws RequestError `bad_threshold` for a share that is none */
export function checkThresholdOptions({
  reviewCapacity = DEFAULT_REVIEW_CAPACITY,
  declinePrecision = DEFAULT_DECLINE_PRECISION,
}: ThresholdOptions): Required<ThresholdOptions> {
  if (!(reviewCapacity > 0 && reviewCapacity <= 1))
    throw new RequestError(
      "bad_threshold",
      `the review capacity is ${reviewCapacity}; it must be a share of the transactions, over 0 and up to 1`,
    );
  if (!(declinePrecision > 0 && declinePrecision <= 1))
    throw new RequestError(
      "bad_threshold",
      `the decline precision is ${declinePrecision}; it must be over 0 and up to 1`,
    );
  return { reviewCapacity, declinePrecision };
}

/** How the note begins that says what thresholds were chosen for. */
export const THRESHOLDS_NOTE = "thresholds:";

export interface ChosenThresholds {
  review: number;
  decline: number;
}

/**
 * Chooses thresholds on rows that the model was not trained on. `decline`: the lowest score of a fraud whose alerts
 * have the precision; `NEVER` where none has. `review`, below it: the lowest score that keeps what is to be looked at
 * beside what is declined within the capacity; without a decline threshold the highest score where even that one alone
 * exceeds it.
 *
 * @returns `note`: how they came about, for people; why there is nothing to review, where that is so
 */
export function chooseThresholds(
  ranking: Ranking,
  options: ThresholdOptions = {},
): ChosenThresholds & { note: string } {
  const { reviewCapacity, declinePrecision } = checkThresholdOptions(options);
  const capacity = Math.max(1, Math.floor(reviewCapacity * ranking.rows));
  const declined = lowestDeclined(ranking, declinePrecision);
  const decline = declined < 0 ? NEVER : below(ranking, declined);
  const declines = declined < 0 ? 0 : ranking.alerts[declined];
  let review = Math.max(declined, 0);
  while (review + 1 < ranking.alerts.length && ranking.alerts[review + 1] - declines <= capacity) review += 1;
  const how =
    `${THRESHOLDS_NOTE} declined is what at least ${percent(declinePrecision)} of is fraud ` +
    `(${declines.toLocaleString("en-US")} of ${ranking.rows.toLocaleString("en-US")} rows), reviewed is what ` +
    `comes next, up to an alert capacity of ${percent(reviewCapacity)} of all transactions ` +
    `(${capacity.toLocaleString("en-US")} rows); change these by review_capacity and decline_precision ` +
    "(--review-capacity, --decline-precision)";
  if (review > declined) return { review: below(ranking, review), decline, note: how };
  const next = ranking.alerts.at(review + 1);
  const why =
    next === undefined
      ? "every row is declined"
      : `the next ${(next - declines).toLocaleString("en-US")} rows have the same score, more than the capacity`;
  return { review: decline, decline, note: `${how}. Nothing is reviewed: ${why}` };
}

/** The last group of a fraud down to which the precision holds; -1: there is none. */
function lowestDeclined({ alerts, caught }: Ranking, precision: number): number {
  let group = alerts.length - 1;
  while (group >= 0 && caught[group] < precision * alerts[group]) group -= 1;
  // What brings no fraud is not declined for those before it.
  while (group > 0 && caught[group] === caught[group - 1]) group -= 1;
  return group;
}

function percent(share: number): string {
  return `${Number((share * 100).toPrecision(3))} %`;
}

/** Lower than the group's score, but never as low as half-way to the next one. */
function below({ scores }: Ranking, group: number): number {
  const score = scores[group];
  const next = group + 1 < scores.length ? scores[group + 1] : 0;
  return score - Math.min((score - next) / 2, TOLERANCE);
}
