import {
  BUCKET,
  DELAY,
  LONGEST_WINDOW_MS,
  MERCHANT_AGGREGATES,
  SHORTEST_WINDOW_MS,
  durationMs,
  type CardSource,
  type MerchantAggregate,
  type MerchantSource,
} from "./history-terms.js";
import { CARD_AGGREGATE_NAMES, type CardAggregate } from "./card-aggregates.js";
import type { FeatureSpec } from "./plan.js";

const NAME = new RegExp(
  `^(?:card_seconds_since_last|card_(${CARD_AGGREGATE_NAMES.join("|")})_(\\d{1,5})([mhd])|` +
    "(card_fraud_share|merchant_count|merchant_fraud_share)_(\\d{1,3})([hd]))$",
);

/** How features over time are named, for people. */
export const HISTORY_NAMES =
  `card_seconds_since_last, card_{${CARD_AGGREGATE_NAMES.join(",")}}_{window}, card_fraud_share_{window}, ` +
  `merchant_{${MERCHANT_AGGREGATES.join(",")}}_{window}; a window is 30m, 12h or 7d, up to 30d; where labels ` +
  "are waited for, whole hours";

/** The feature of a name such as `card_mean_7d`, `merchant_fraud_share_30d`; null: the name is none of these. */
export function historyFeature(name: string): FeatureSpec | null {
  const match = NAME.exec(name);
  if (match === null) return null;
  const [, aggregate, many, unit, delayed, hours, delayedUnit] = match;
  let source: CardSource | MerchantSource;
  if (aggregate !== undefined)
    source = { kind: "card", aggregate: aggregate as CardAggregate, window: windowOf(many, unit) };
  else if (delayed === undefined) source = { kind: "card", aggregate: "seconds_since_last" };
  else {
    const window = { window: windowOf(hours, delayedUnit), delay: DELAY, bucket: BUCKET };
    source =
      delayed === "card_fraud_share"
        ? { kind: "card", aggregate: "fraud_share", ...window }
        : { kind: "merchant", aggregate: delayed.slice("merchant_".length) as MerchantAggregate, ...window };
  }
  if ("window" in source) {
    const windowMs = durationMs(source.window);
    if (!(windowMs >= SHORTEST_WINDOW_MS && windowMs <= LONGEST_WINDOW_MS)) return null;
  }
  return { name, type: "number", source, default: null };
}

function windowOf(many: string, unit: string): string {
  return unit === "d" ? `P${Number(many)}D` : `PT${Number(many)}${unit.toUpperCase()}`;
}

/** The default features of cards and merchants, chosen on simulated data (README.md in this folder). */
const DEFAULT_CARD = [
  "card_count_1d",
  "card_mean_1d",
  "card_count_7d",
  "card_mean_7d",
  "card_count_30d",
  "card_mean_30d",
  "card_seconds_since_last",
  "card_amount_over_mean_30d",
];
const DEFAULT_MERCHANT = [
  "merchant_count_1d",
  "merchant_fraud_share_1d",
  "merchant_count_7d",
  "merchant_fraud_share_7d",
  "merchant_count_30d",
  "merchant_fraud_share_30d",
];

/** Windowed features for a data set whose cards, or merchants, are real. */
export function defaultHistory({
  hasCards,
  hasMerchants,
}: {
  hasCards: boolean;
  hasMerchants: boolean;
}): FeatureSpec[] {
  return [...(hasCards ? DEFAULT_CARD : []), ...(hasMerchants ? DEFAULT_MERCHANT : [])].flatMap(
    (name) => historyFeature(name) ?? [],
  );
}
