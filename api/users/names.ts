import type { UserDirectory } from "./user-directory.js";

/** The name behind a user's id; of `system:…` itself; null: the user no longer exists. */
export function nameOf(users: Pick<UserDirectory, "byId">, id: string): string | null {
  return id.startsWith("system:") ? id : (users.byId(id)?.username ?? null);
}
