import type { ApiContext } from "./context.js";
import { livenessOf } from "../models/control/liveness.js";

const CODE = "scoring_silent";

/** Raises or clears the condition that no worker scores a partition, or that its worker is silent. */
export function lookAtScoring({
  control,
  workers,
  topics: {
    transactions: { name, partitions },
  },
  conditions,
}: Pick<ApiContext, "control" | "workers" | "topics" | "conditions">): void {
  const deployed = control.state.deployment?.champion !== null && control.state.deployment !== null;
  // Whatever epoch it is at: the call that deploys reports where a deployment is not live yet.
  const { missing } = livenessOf(workers, -1, partitions);
  const none = workers.alive("scoring").length === 0;
  conditions.set(
    deployed && missing.length > 0,
    CODE,
    name,
    () =>
      none
        ? `no scoring worker has sent a heartbeat for 5 seconds: the payments in ${name} wait. Start one, or ` +
          "look at why those that run stand still"
        : `no scoring worker reports partitions ${missing.join(", ")} of ${name}: their payments wait. This ` +
          "passes by itself while partitions move; else look at the workers' /health/ready",
    { blocking: false },
  );
}
