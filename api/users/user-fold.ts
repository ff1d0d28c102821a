import type { User } from "../../schemas/generated.js";

/** The form in which two names are compared. */
export const canonicalName = (username: string): string => username.toLowerCase();

interface Entry {
  /** Its `claim` is known: the offset of the record that made the user. */
  user: User;
  /** Offset of the user's last accepted record. */
  at: number;
}

/**
 * The users as the records of fraud.users tell, in their order. Deterministic: every copy of the API that has read the
 * same records has the same users.
 *
 * Two rules decide what a record does. A new user whose name is held by a user with a lower claim is refused. A change
 * whose `base` isn't the user's last accepted record is refused. Since the topic is compacted, a refused record must not
 * stay the newest of its key: `strays` are the keys whose author, or the next API to start, has to write over it.
 * Compaction may also remove the records that a later one builds on, so the first that is seen of a user is taken
 * whatever its base, with the claim that it states.
 */
export class UserFold {
  readonly #users = new Map<string, Entry>();
  readonly #names = new Map<string, string>();
  readonly #removed = new Set<string>();
  /** Ids whose newest record was refused. */
  readonly strays = new Set<string>();

  byId(id: string): User | undefined {
    return this.#users.get(id)?.user;
  }

  byName(username: string): User | undefined {
    const id = this.#names.get(canonicalName(username));
    return id === undefined ? undefined : this.byId(id);
  }

  /** What a change of this user has to name as its base. */
  baseOf(id: string): number {
    return this.#users.get(id)?.at ?? -1;
  }

  /** Oldest first. */
  all(): User[] {
    return [...this.#users.values()].map(({ user }) => user).sort((a, b) => a.claim - b.claim);
  }

  /**
   * Applies the record at an offset.
   *
   * @param user null: a tombstone
   * @returns false when it is refused
   */
  apply(id: string, user: User | null, offset: number): boolean {
    const accepted = user === null ? this.#remove(id) : this.#put(id, user, offset);
    if (accepted) this.strays.delete(id);
    else this.strays.add(id);
    return accepted;
  }

  #remove(id: string): true {
    this.#drop(id);
    this.#removed.add(id);
    return true;
  }

  #put(id: string, user: User, offset: number): boolean {
    const known = this.#users.get(id);
    if (known !== undefined) {
      if (user.base !== known.at) return false;
      this.#users.set(id, { user: { ...user, username: known.user.username, claim: known.user.claim }, at: offset });
      return true;
    }
    if (user.id !== id || this.#removed.has(id)) return false;
    const claim = user.base < 0 ? offset : user.claim;
    const holder = this.byName(user.username);
    if (holder !== undefined) {
      if (holder.claim <= claim) return false;
      // Only in a compacted log, where the newest record of the first claim may come late.
      this.#drop(holder.id);
      this.strays.add(holder.id);
    }
    this.#users.set(id, { user: { ...user, claim }, at: offset });
    this.#names.set(canonicalName(user.username), id);
    return true;
  }

  #drop(id: string): void {
    const known = this.#users.get(id);
    if (known === undefined) return;
    this.#users.delete(id);
    this.#names.delete(canonicalName(known.user.username));
  }
}
