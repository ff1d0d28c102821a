import type { ApiContext } from "./context.js";
import { lookAtReplacedLogs } from "./replaced-logs.js";
import { lookAtScoring } from "./scoring-conditions.js";

const LOOK_EVERY_MS = 1_000;

/** Raises and clears what the API knows of itself and of the workers: once a second, until `lifecycle` ends. */
export function watchConditions(context: ApiContext, lifecycle: { add(name: string, stop: () => void): void }): void {
  const timer = setInterval(() => lookAtConditions(context), LOOK_EVERY_MS);
  lifecycle.add("conditions watch", () => clearInterval(timer));
}

/** The same, as of now. */
export function lookAtConditions(context: ApiContext): void {
  lookAtScoring(context);
  lookAtReplacedLogs(context);
}
