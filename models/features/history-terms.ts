import { Type, type Static } from "@sinclair/typebox";
import { FraudstreamError } from "../../schemas/errors.js";
import { CardAggregateName, type CardAggregate } from "./card-aggregates.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** Windows are from one minute to this. */
export const LONGEST_WINDOW_MS = 30 * DAY_MS;
export const SHORTEST_WINDOW_MS = MINUTE_MS;
/** How long a label is waited for before a bucket is sealed. */
export const LABEL_DELAY_MS = 7 * DAY_MS;
/** Size of the merchants' buckets, aligned to the epoch. */
export const BUCKET_MS = HOUR_MS;
/** An event older than its partition's clock by more is too late: scored, marked stale, counted. */
export const LATENESS_MS = 24 * HOUR_MS;
/** A transaction further ahead of its partition's clock moves it only together with the next one. */
export const LEAP_MS = 24 * HOUR_MS;
/** Of event time, either way and inclusive: the same transaction id of a card again is a dead letter. */
export const REPEAT_HORIZON_MS = 24 * HOUR_MS;
/** An event that is not newer than its partition's clock minus this belongs to no window. */
export const RETENTION_MS = LONGEST_WINDOW_MS + LABEL_DELAY_MS + 2 * BUCKET_MS + LATENESS_MS;
/** Events of one card that count: its newest. */
export const MAX_CARD_EVENTS = 4_096;

/**
 * Part of every feature's formula, hence of its hash and of a snapshot's: what was computed with others is of no use.
 */
export const HISTORY_TERMS: readonly number[] = [
  LONGEST_WINDOW_MS,
  LABEL_DELAY_MS,
  BUCKET_MS,
  LATENESS_MS,
  LEAP_MS,
  REPEAT_HORIZON_MS,
  RETENTION_MS,
  MAX_CARD_EVENTS,
];

/** The only delay and bucket that there are, as manifests write them. */
export const DELAY = "P7D";
export const BUCKET = "PT1H";

export const MERCHANT_AGGREGATES = ["count", "fraud_share"] as const;
export type MerchantAggregate = (typeof MERCHANT_AGGREGATES)[number];

const closed = { additionalProperties: false } as const;
const Window = Type.String({ minLength: 3, maxLength: 20, description: "ISO 8601, from PT1M to P30D" });
const delayed = {
  window: Type.String({ minLength: 3, maxLength: 20, description: "ISO 8601, whole hours from PT1H to P30D" }),
  delay: Type.String({ maxLength: 20, description: "Only P7D is computed" }),
  bucket: Type.String({ maxLength: 20, description: "Only PT1H is computed" }),
};

/** What is known of a card before, and with, a transaction. */
export const CardSource = Type.Union([
  Type.Object({ kind: Type.Literal("card"), aggregate: CardAggregateName, window: Window }, closed),
  Type.Object({ kind: Type.Literal("card"), aggregate: Type.Literal("seconds_since_last") }, closed),
  Type.Object({ kind: Type.Literal("card"), aggregate: Type.Literal("fraud_share"), ...delayed }, closed),
]);
export type CardSource = Static<typeof CardSource>;

/** What is known of a merchant, a week late. */
export const MerchantSource = Type.Object(
  {
    kind: Type.Literal("merchant"),
    aggregate: Type.Union([Type.Literal("count"), Type.Literal("fraud_share")]),
    ...delayed,
  },
  closed,
);
export type MerchantSource = Static<typeof MerchantSource>;

const DURATION = /^P(?=.)(?:(\d{1,4})D)?(?:T(?=.)(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8})S)?)?$/;

/** Milliseconds of an ISO 8601 duration in days, hours, minutes and seconds; NaN for any other text. */
export function durationMs(text: string): number {
  const match = DURATION.exec(text);
  if (match === null) return Number.NaN;
  const [, days = "0", hours = "0", minutes = "0", seconds = "0"] = match;
  return Number(days) * DAY_MS + Number(hours) * HOUR_MS + Number(minutes) * MINUTE_MS + Number(seconds) * 1000;
}

/** A history source with its window in milliseconds, 0 where it has none. */
export interface HistoryTerm {
  kind: "card" | "merchant";
  aggregate: CardAggregate | MerchantAggregate | "seconds_since_last";
  windowMs: number;
}

/**
 * What a source asks for, in one spelling.
 *
 * @throws FraudstreamError `unknown_feature` if it is not computed, naming what is
 */
export function historyTerm(source: CardSource | MerchantSource): HistoryTerm {
  const { kind, aggregate } = source;
  if (!("window" in source)) return { kind, aggregate, windowMs: 0 };
  const windowMs = durationMs(source.window);
  const refuse = (what: string): FraudstreamError =>
    new FraudstreamError("unknown_feature", `a ${kind}'s ${aggregate}: ${what}`);
  if (!(windowMs >= SHORTEST_WINDOW_MS && windowMs <= LONGEST_WINDOW_MS))
    throw refuse(`the window is ${JSON.stringify(source.window)}; it must be an ISO 8601 duration from PT1M to P30D`);
  if ("delay" in source) {
    if (windowMs % BUCKET_MS !== 0)
      throw refuse(`the window is ${JSON.stringify(source.window)}; it must be whole hours, from PT1H to P30D`);
    if (durationMs(source.delay) !== LABEL_DELAY_MS)
      throw refuse(`the delay is ${JSON.stringify(source.delay)}; only ${DELAY} is computed`);
    if (durationMs(source.bucket) !== BUCKET_MS)
      throw refuse(`the bucket is ${JSON.stringify(source.bucket)}; only ${BUCKET} is computed`);
  }
  return { kind, aggregate, windowMs };
}
