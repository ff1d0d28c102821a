import type { User } from "../../schemas/generated.js";

/** The form in which two names are compared. */
export const canonicalName = (username: string): string => username.toLowerCase();

interface Entry {
  /** Its `claim` is known: of two users with one name, what tells who was first. */
  user: User;
  /** What the next change has to name as its base. */
  nextBase: number;
}

/** A refused record whose author neither knew an older state nor lost a race for a name. */
export interface UnexplainedUser {
  id: string;
  offset: number;
}

/** Of two users with one name made within this time, the second lost a race, and its author was told so. */
const RACE_MS = 10 * 60_000;

/**
 * The users as the records of fraud.users tell, in their order. Deterministic: every copy of the API that has read the
 * same records has the same users.
 * Two rules decide what a record does, and neither compares offsets: in a copy of the topic (a mirror, a restore)
 * records have other offsets, while the bases and claims in them are the old ones (infra/decisions/0014-order.md). A
 * change counts when its `base` is greater than that of the user's last accepted record: whoever knew that one names a
 * base that was assigned after it, whoever knew only an earlier one names a base that is at most equal. A new user
 * whose name is held is refused, since the holder stands before it in the log; only where compaction has removed the
 * record that made a user does the time decide at which each of the two was made. Since the topic is compacted, a
 * refused record must not stay the newest of its key: `strays` are the keys whose author, or the next API to start, has
 * to write over it. Compaction may also remove the records that a later one builds on, so the first that is seen of a
 * user is taken whatever its base.
 */
export class UserFold {
  readonly #users = new Map<string, Entry>();
  readonly #names = new Map<string, string>();
  readonly #removed = new Set<string>();
  /** Ids whose newest record was refused. */
  readonly strays = new Set<string>();
  /** Those of them that no race explains: users of two logs are mixed in this one. */
  readonly unexplained = new Map<string, UnexplainedUser>();

  byId(id: string): User | undefined {
    return this.#users.get(id)?.user;
  }

  byName(username: string): User | undefined {
    const id = this.#names.get(canonicalName(username));
    return id === undefined ? undefined : this.byId(id);
  }

  /** What a change of this user has to name as its base. */
  baseOf(id: string): number {
    return this.#users.get(id)?.nextBase ?? -1;
  }

  /** Oldest first. */
  all(): User[] {
    return [...this.#users.values()]
      .map(({ user }) => user)
      .sort((a, b) => a.created_at - b.created_at || a.claim - b.claim);
  }

  /**
   * Applies the record at an offset.
   *
   * @param user null: a tombstone
   * @returns false when it is refused
   */
  apply(id: string, user: User | null, offset: number): boolean {
    const accepted = user === null ? this.#remove(id) : this.#put(id, user, offset);
    if (accepted) {
      this.strays.delete(id);
      this.unexplained.delete(id);
    } else {
      this.strays.add(id);
      if (user !== null && !this.#isExplained(id, user)) this.unexplained.set(id, { id, offset });
    }
    return accepted;
  }

  #remove(id: string): true {
    this.#drop(id);
    this.#removed.add(id);
    return true;
  }

  #put(id: string, user: User, offset: number): boolean {
    const known = this.#users.get(id);
    const nextBase = Math.max(offset, user.base + 1);
    if (known !== undefined) {
      if (user.base <= known.user.base) return false;
      this.#users.set(id, { user: { ...user, username: known.user.username, claim: known.user.claim }, nextBase });
      return true;
    }
    if (user.id !== id || this.#removed.has(id)) return false;
    const holder = this.byName(user.username);
    if (holder !== undefined) {
      if (user.base < 0 || !wasMadeBefore(user, holder)) return false;
      // Only in a compacted log, where the newest record of the first claim may come late.
      this.#drop(holder.id);
      this.strays.add(holder.id);
    }
    this.#users.set(id, { user: { ...user, claim: user.base < 0 ? offset : user.claim }, nextBase });
    this.#names.set(canonicalName(user.username), id);
    return true;
  }

  /**
   * Whether an author who raced another one, or a change of a user who was removed, explains that a record was refused.
   */
  #isExplained(id: string, user: User): boolean {
    if (user.id !== id || this.#removed.has(id)) return true;
    const known = this.#users.get(id)?.user;
    if (known !== undefined) return user.changed_at <= known.changed_at + RACE_MS;
    const holder = this.byName(user.username);
    return holder === undefined || Math.abs(holder.created_at - user.created_at) <= RACE_MS;
  }

  #drop(id: string): void {
    const known = this.#users.get(id);
    if (known === undefined) return;
    this.#users.delete(id);
    this.#names.delete(canonicalName(known.user.username));
  }
}

function wasMadeBefore(user: User, holder: User): boolean {
  return user.created_at === holder.created_at ? user.claim < holder.claim : user.created_at < holder.created_at;
}
