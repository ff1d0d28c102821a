import type { ApiContext } from "./context.js";

const CODE = "log_replaced";

/**
 * Raises or clears the condition that fraud.control or fraud.users no longer holds what was read of it. It blocks: this
 * copy refuses every decision or change of users, and others may have restarted with what the new topic holds.
 */
export function lookAtReplacedLogs({
  control,
  users,
  topics,
  conditions,
}: Pick<ApiContext, "control" | "users" | "topics" | "conditions">): void {
  for (const [{ name }, { replaced }] of [
    [topics.control, control],
    [topics.users, users],
  ] as const) {
    conditions.set(replaced !== null, CODE, name, () => replaced ?? "", { blocking: true });
  }
}
