import type { UserDirectory } from "./user-directory.js";

/** The name behind a user's id; of `system:…` itself; null: there is no such user any more. */
export function nameOf(users: Pick<UserDirectory, "byId">, id: string): string | null {
  return id.startsWith("system:") ? id : (users.byId(id)?.username ?? null);
}
