import type { ApiContext } from "./context.js";

const LOOK_EVERY_MS = 1_000;
const CODE = "log_replaced";

/** Reports logs whose content was replaced under the API: once a second, until `lifecycle` ends. */
export function watchReplacedLogs(context: ApiContext, lifecycle: { add(name: string, stop: () => void): void }): void {
  const timer = setInterval(() => lookAtReplacedLogs(context), LOOK_EVERY_MS);
  lifecycle.add("replaced logs watch", () => clearInterval(timer));
}

/**
 * Raises or clears the condition that fraud.control or fraud.users no longer holds what was read of it. It blocks: this copy
 * refuses every decision or change of users, and others may have restarted with what the new topic holds.
 */
export function lookAtReplacedLogs({ control, users, topics, conditions }: Pick<ApiContext, "control" | "users" | "topics" | "conditions">): void {
  for (const [{ name }, { replaced }] of [[topics.control, control], [topics.users, users]] as const) {
    conditions.set(replaced !== null, CODE, name, () => replaced ?? "", { blocking: true });
  }
}
