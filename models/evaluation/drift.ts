// The population stability index (PSI), Σ (aᵢ − eᵢ) · ln(aᵢ / eᵢ) over the shares of bins: N. Siddiqi, *Credit Risk
// Scorecards*, Wiley 2006, with its thresholds. The share of it that is due to chance alone grows as windows shrink:
// B. Yurdakul, *Statistical Properties of Population Stability Index*, Western Michigan University 2018.

/** PSI from which on a population is watched, and above which it has drifted (Siddiqi 2006). */
export const DRIFT_THRESHOLDS = { watch: 0.1, drifted: 0.25 } as const;

export type DriftVerdict = "stable" | "watch" | "drifted";

export interface Drift {
  /** Null: one side has no rows. */
  psi: number | null;
  /** Null: there are too few rows to tell. */
  verdict: DriftVerdict | null;
  /** The PSI that chance alone passes once in a hundred windows of so many rows. */
  by_chance: number | null;
}

/** The quantile of the normal distribution that one of a hundred passes. */
const ONE_IN_A_HUNDRED = 2.326;

/**
 * Compares counts by bin. A bin that is empty on one side counts as half a row there, one that is empty on both is left
 * out; otherwise the shares are as they are.
 * There is no verdict where chance alone would pass the lower threshold more than once in a hundred windows: under no
 * drift, PSI / (1/n + 1/m) has about a χ² distribution with bins − 1 degrees of freedom (Yurdakul 2018, and his normal
 * approximation of it), if the rows are independent of each other.
 */
export function driftOf(reference: readonly number[], live: readonly number[]): Drift {
  const [expected, actual] = [total(reference), total(live)];
  if (expected === 0 || actual === 0) return { psi: null, verdict: null, by_chance: null };
  let psi = 0;
  let bins = 0;
  for (const [bin, count] of live.entries()) {
    if (count === 0 && reference[bin] === 0) continue;
    const a = (count || 0.5) / actual;
    const e = (reference[bin] || 0.5) / expected;
    psi += (a - e) * Math.log(a / e);
    bins += 1;
  }
  const freedom = Math.max(1, bins - 1);
  const by_chance = (freedom + ONE_IN_A_HUNDRED * Math.sqrt(2 * freedom)) * (1 / actual + 1 / expected);
  return { psi, by_chance, verdict: by_chance > DRIFT_THRESHOLDS.watch ? null : verdictOf(psi) };
}

function verdictOf(psi: number): DriftVerdict {
  return psi > DRIFT_THRESHOLDS.drifted ? "drifted" : psi >= DRIFT_THRESHOLDS.watch ? "watch" : "stable";
}

/** The worst of some verdicts; null: there is none. */
export function worstVerdict(verdicts: readonly (DriftVerdict | null)[]): DriftVerdict | null {
  return (["drifted", "watch", "stable"] as const).find((verdict) => verdicts.includes(verdict)) ?? null;
}

function total(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0);
}
