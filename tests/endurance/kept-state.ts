import { eventually } from "../support/eventually.js";
import { sumOf } from "./sampler.js";
import type { SystemUnderLoad } from "./system.js";

const MB = 1 << 20;

/**
 * Scoring keeps what each card did for 38 days, merchants each transaction of the week that isn't sealed: what that
 * takes is told by their own gauges.
 */
const STATE_BYTES = { scoring: "fraudstream_scoring_history_bytes", merchants: "fraudstream_merchants_bytes" } as const;

/** MB that these roles keep by design, by their own account. */
export async function keptStateMb(under: SystemUnderLoad): Promise<Record<keyof typeof STATE_BYTES, number>> {
  // A role in a large batch doesn't tell: it is asked again.
  const told = (role: keyof typeof STATE_BYTES): Promise<number> =>
    eventually(`${role} tells ${STATE_BYTES[role]}`, async () => {
      const metrics = await under.metrics(role);
      return metrics === null ? undefined : (sumOf(metrics, STATE_BYTES[role]) ?? undefined);
    });
  return { scoring: (await told("scoring")) / MB, merchants: (await told("merchants")) / MB };
}
