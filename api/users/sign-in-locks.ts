import { createHmac, randomBytes } from "node:crypto";
import ipaddr from "ipaddr.js";
import type { Logger } from "../../infra/logging.js";
import { messageOf } from "../../schemas/errors.js";
import type { WorkerHeartbeat } from "../../schemas/generated.js";

/** Who tries to sign in, and from where. */
export interface Attempt {
  /** In the form in which names are compared. */
  name: string;
  /** As `countedAddress` makes it. An address may be that of many people. */
  address: string;
}

type Key = `pair:${string}` | `name:${string}` | `address:${string}`;

/** So many wrong passwords of a name from one address cost nothing but their time. */
const FREE = 5;
/** The next one locks the two for this long, each further one for twice as long as the one before, up to the most. */
const FIRST_MS = 15_000;
const MOST_LOCK_MS = 60_000;
/** For an address that has signed in with this name before: others may share it. */
const MOST_KNOWN_LOCK_MS = 15_000;
/**
 * Wrong passwords of a name from addresses that never signed in as it: so many at once, and so many a minute from then
 * on.
 */
const OF_NAME = { burst: 20, aMinute: 10 } as const;
/** Without a further one, what was counted of a name and an address is forgotten. */
const FORGET_MS = 30 * 60_000;
const KNOWN_MS = 30 * 24 * 60 * 60_000;
const MOST_KEPT = 50_000;
const MOST_KNOWN = 10_000;
const MOST_SHARED = 500;
const SHARE_AFTER_MS = 100;
/** Told again so often, so that a copy that starts hears of it. */
export const SHARE_EVERY_MS = 5 * 60_000;
const SHARED = /^sign-in-(lock|known) ([A-Za-z0-9_-]{16}) (\d{13})$/;

/** Wrong tries at one moment: a lock's count, or how much of an allowance is used up. */
interface Failures {
  count: number;
  last: number;
  until: number;
}

export interface SignInLocksOptions {
  /**
   * Shared by all copies: names and addresses are shared under a hash keyed with it, so that nobody learns who is being
   * tried. @default nothing is shared
   */
  secret?: string | null;
  /** Wrong passwords a minute from one address that the names tried have never signed in from. @default 20 */
  ofAddress?: number;
  /** @default one minute */
  mostLockMs?: number;
  /** Shares everything with the other copies, as lines of a heartbeat. @default nothing is shared */
  share?: (lines: string[]) => Promise<void>;
  /** The lines of the other copies. @default none */
  heard?: () => readonly string[];
  log?: Logger;
  now?: () => number;
}

/**
 * How long a sign-in has to wait. Only wrong passwords count; whether there is such a user makes no difference.
 *
 * - A name and an address together are locked after a few wrong ones, for a time that grows.
 * - A name, and an address, are slowed down beyond an allowance that refills by the minute: nobody can lock out a name,
 *   nor
 *   everybody behind a proxy, and guesses from many addresses stay few.
 * - Whoever has signed in from an address before passes by the allowances of others: only their own wrong tries count
 *   there.
 * What is counted is counted by each copy for itself; what is locked, and who is known from where, all copies hear a
 * moment later.
 */
export class SignInLocks {
  readonly #failures = new Map<Key, Failures>();
  /** By the hash of a name and an address: when they signed in last, here or at another copy. */
  readonly #known = new Map<string, number>();
  readonly #secret: string;
  readonly #ofAddress: number;
  readonly #mostLockMs: number;
  readonly #share: SignInLocksOptions["share"];
  readonly #heard: () => readonly string[];
  readonly #log: Logger | undefined;
  readonly #now: () => number;
  readonly #again: NodeJS.Timeout | null;
  #sharing: NodeJS.Timeout | null = null;

  constructor({ secret, ofAddress = 20, mostLockMs = MOST_LOCK_MS, share, heard, log, now }: SignInLocksOptions = {}) {
    this.#secret = secret ?? randomBytes(32).toString("hex");
    this.#ofAddress = ofAddress;
    this.#mostLockMs = mostLockMs;
    this.#share = share;
    this.#heard = heard ?? (() => []);
    this.#log = log;
    this.#now = now ?? Date.now;
    this.#again = share === undefined ? null : setInterval(() => this.#tellAgain(), SHARE_EVERY_MS).unref();
  }

  /** Seconds until there may be another try; 0: now. */
  waitOf(attempt: Attempt): number {
    const now = this.#now();
    const locks = this.#hear();
    const known = this.#isKnown(attempt);
    const most = known ? MOST_KNOWN_LOCK_MS : this.#mostLockMs;
    let until = 0;
    for (const key of known ? [pairOf(attempt)] : keysOf(attempt)) {
      // A clock that is ahead must not lock for longer.
      until = Math.max(until, this.#current(key)?.until ?? 0, Math.min(locks.get(this.#idOf(key)) ?? 0, now + most));
    }
    return Math.max(0, Math.ceil((until - now) / 1_000));
  }

  /** Whether this name has signed in from this address before. */
  isKnown(attempt: Attempt): boolean {
    this.#hear();
    return this.#isKnown(attempt);
  }

  /** Counts a try as wrong, before that is known: of many at once not all are let through. */
  count(attempt: Attempt): void {
    const now = this.#now();
    const known = this.#isKnown(attempt);
    const pair = this.#current(pairOf(attempt)) ?? { count: 0, last: now, until: 0 };
    pair.count += 1;
    pair.last = now;
    if (pair.count >= FREE)
      pair.until =
        now + Math.min(known ? MOST_KNOWN_LOCK_MS : this.#mostLockMs, FIRST_MS * 2 ** Math.min(pair.count - FREE, 20));
    this.#keep(pairOf(attempt), pair);
    if (!known) {
      this.#spend(`name:${attempt.name}`, OF_NAME.burst, OF_NAME.aMinute);
      this.#spend(`address:${attempt.address}`, this.#ofAddress, this.#ofAddress);
    }
    if (this.#waits(keysOf(attempt))) this.#tell();
  }

  /** The try was right after all: it doesn't count, and this name is known from this address from now on. */
  right(attempt: Attempt): void {
    const now = this.#now();
    const known = this.#isKnown(attempt);
    if (!known || this.#waits([pairOf(attempt)])) this.#tell();
    this.#failures.delete(pairOf(attempt));
    if (!known) for (const key of keysOf(attempt).slice(1)) this.#giveBack(key);
    const id = this.#idOf(pairOf(attempt));
    this.#known.delete(id);
    this.#known.set(id, now);
    if (this.#known.size > MOST_KNOWN) this.#known.delete(this.#known.keys().next().value as string);
  }

  close(): void {
    if (this.#sharing !== null) clearTimeout(this.#sharing);
    if (this.#again !== null) clearInterval(this.#again);
  }

  #isKnown(attempt: Attempt): boolean {
    return (this.#known.get(this.#idOf(pairOf(attempt))) ?? 0) > this.#now() - KNOWN_MS;
  }

  #waits(keys: readonly Key[]): boolean {
    return keys.some((key) => (this.#current(key)?.until ?? 0) > this.#now());
  }

  /** Uses up one of an allowance of `burst`, which refills by so many a minute. */
  #spend(key: Key, burst: number, aMinute: number): void {
    const now = this.#now();
    const used = this.#failures.get(key) ?? { count: 0, last: now, until: 0 };
    used.count = Math.max(0, used.count - ((now - used.last) / 60_000) * aMinute) + 1;
    used.last = now;
    used.until = used.count < burst ? 0 : now + Math.ceil(((used.count - burst + 1) / aMinute) * 60_000);
    this.#keep(key, used);
  }

  #giveBack(key: Key): void {
    const used = this.#failures.get(key);
    if (used === undefined) return;
    used.count = Math.max(0, used.count - 1);
    used.until = 0;
  }

  #keep(key: Key, failures: Failures): void {
    this.#failures.delete(key);
    this.#failures.set(key, failures);
    if (this.#failures.size > MOST_KEPT) this.#failures.delete(this.#failures.keys().next().value as Key);
  }

  #current(key: Key): Failures | undefined {
    const failures = this.#failures.get(key);
    return failures === undefined || Math.max(failures.last, failures.until) + FORGET_MS <= this.#now()
      ? undefined
      : failures;
  }

  #idOf(key: Key): string {
    return createHmac("sha256", this.#secret).update(`fraudstream sign-in ${key}`).digest("base64url").slice(0, 16);
  }

  /** What the other copies say: remembers who is known from where, and returns until when what is locked. */
  #hear(): Map<string, number> {
    const locks = new Map<string, number>();
    const now = this.#now();
    for (const line of this.#heard()) {
      const [, kind, id = "", text] = SHARED.exec(line) ?? [];
      const time = Number(text);
      if (kind === "lock") locks.set(id, Math.max(locks.get(id) ?? 0, time));
      else if (kind === "known" && (this.#known.get(id) ?? 0) < Math.min(time, now)) {
        if (this.#known.size < MOST_KNOWN || this.#known.has(id)) this.#known.set(id, Math.min(time, now));
      }
    }
    return locks;
  }

  #tellAgain(): void {
    this.#hear();
    if (this.#known.size > 0) this.#tell();
  }

  /** Soon, all that is locked and the newest that is known, at once. */
  #tell(): void {
    if (this.#share === undefined || this.#sharing !== null) return;
    this.#sharing = setTimeout(() => {
      this.#sharing = null;
      const now = this.#now();
      const locked = [...this.#failures].filter(([, { until }]) => until > now).slice(-MOST_SHARED);
      const known = [...this.#known].sort(([, a], [, b]) => a - b).slice(-MOST_SHARED);
      const lines = [
        ...locked.map(([key, { until }]) => `sign-in-lock ${this.#idOf(key)} ${until}`),
        ...known.map(([id, time]) => `sign-in-known ${id} ${time}`),
      ];
      this.#share?.(lines).catch((error: unknown) =>
        this.#log?.warn(`other copies could not be told which sign-ins are locked: ${messageOf(error)}`),
      );
    }, SHARE_AFTER_MS);
    this.#sharing.unref();
  }
}

/**
 * The heartbeat of an API copy. Copies of the version before read the lines from `problems`, for as long as both may
 * run.
 */
export function signInHeartbeat(copy: string, lines: string[]): WorkerHeartbeat {
  return {
    worker: copy,
    role: "api",
    at: Date.now(),
    partitions: [],
    problems: lines,
    refused: [],
    job: null,
    sign_in_locks: lines,
  };
}

/** The lines that an API copy shares, of this version or the one before. */
export function signInLinesOf({ problems, sign_in_locks }: WorkerHeartbeat): string[] {
  return sign_in_locks.length > 0 ? sign_in_locks : problems;
}

function pairOf({ name, address }: Attempt): Key {
  return `pair:${address} ${name}`;
}

function keysOf(attempt: Attempt): [Key, Key, Key] {
  return [pairOf(attempt), `name:${attempt.name}`, `address:${attempt.address}`];
}

/** The address that is counted: of IPv6 the network, since one machine has 2^64 addresses of it. */
export function countedAddress(ip: string): string {
  if (!ipaddr.isValid(ip)) return "unknown";
  const address = ipaddr.process(ip);
  return address.kind() === "ipv6"
    ? (address as ipaddr.IPv6).parts
        .slice(0, 4)
        .map((part) => part.toString(16))
        .join(":")
    : address.toString();
}
