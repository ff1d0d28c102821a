import { Random } from "./random.js";
import { STREAM } from "./population.js";

/**
 * The three kinds of fraud, after the scenarios of the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot,
 * Bontempi: "Reproducible Machine Learning for Credit Card Fraud Detection", 2022, chapter 3, "Transaction data
 * simulator"). The Handbook's frauds are a function of amount, terminal and card alone; ours are shares of the payments
 * and leave traces in the attributes, so that a model without any history finds a good part of them and one with
 * history finds more.
 */
export const FRAUD = {
  /** A single large purchase with stolen card data. */
  large: { share: 0.0022, least: 140, mean: 260, online: 0.7 },
  /** A terminal that copies cards: for a period, most payments there are fraud. */
  compromisedTerminal: { startsPerDay: 0.00026, days: 14, share: 0.85 },
  /**
   * A lost card in other hands: for a period, a share of its payments, with amounts multiplied, at places unlike its
   * owner's.
   */
  stolenCard: { startsPerDay: 0.0005, days: 14, share: 0.5, leastFactor: 1.5, mostFactor: 6 },
} as const;

/** Of `count` terminals, those that are compromised on a day (days since 1970): 1, else 0. */
export function compromisedTerminals(seed: number, count: number, day: number): Uint8Array {
  return underAttack(seed, STREAM.compromise, count, day, FRAUD.compromisedTerminal);
}

/** Of `count` cards, those that are stolen on a day: 1, else 0. */
export function stolenCards(seed: number, count: number, day: number): Uint8Array {
  return underAttack(seed, STREAM.theft, count, day, FRAUD.stolenCard);
}

/** An attack starts on any day with the same small chance and goes on for some days, whichever day is asked for. */
function underAttack(
  seed: number,
  stream: number,
  count: number,
  day: number,
  attack: { startsPerDay: number; days: number },
): Uint8Array {
  const flags = new Uint8Array(count);
  for (let start = day - attack.days + 1; start <= day; start++) {
    const random = new Random(seed, stream, start);
    for (let i = 0; i < count; i++) {
      if (random.chance(attack.startsPerDay)) flags[i] = 1;
    }
  }
  return flags;
}
