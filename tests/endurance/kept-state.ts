import { sumOf } from "./sampler.js";
import type { RoleName, SystemUnderLoad } from "./system.js";

/** Scoring keeps what each card did for 38 days, merchants each transaction of the week that isn't sealed: what that takes is told by their own gauges. */
const STATE_BYTES = { scoring: "fraudstream_scoring_history_bytes", merchants: "fraudstream_merchants_bytes" } as const;

/** MB that roles keep by design, by their own account; 0 of one that doesn't answer. */
export async function keptStateMb(under: SystemUnderLoad): Promise<Partial<Record<RoleName, number>>> {
  const kept: Partial<Record<RoleName, number>> = {};
  for (const role of ["scoring", "merchants"] as const) {
    const metrics = await under.metrics(role);
    kept[role] = (metrics === null ? 0 : (sumOf(metrics, STATE_BYTES[role]) ?? 0)) / (1 << 20);
  }
  return kept;
}
