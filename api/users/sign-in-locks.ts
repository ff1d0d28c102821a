import { createHmac, randomBytes } from "node:crypto";
import ipaddr from "ipaddr.js";
import type { Logger } from "../../infra/logging.js";
import { messageOf } from "../../schemas/errors.js";

/** What wrong passwords are counted for. An address may be that of many people. */
export type Guarded = `name:${string}` | `address:${string}`;

/** So many wrong passwords cost nothing but their time. */
const FREE = { name: 5, address: 50 } as const;
/** The next one locks for this long, each further one for twice as long as the one before, up to the most. */
const FIRST_MS = 15_000;
export const MOST_LOCK_MS = 10 * 60_000;
/** Without a further one, what was counted is forgotten. */
const FORGET_MS = 30 * 60_000;
const MOST_KEPT = 50_000;
const MOST_SHARED = 500;
const SHARE_AFTER_MS = 100;
const SHARED = /^sign-in-lock ([A-Za-z0-9_-]{16}) (\d{13})$/;

interface Failures { count: number; last: number; until: number }

export interface SignInLocksOptions {
  /** What all copies share: locks are told under a hash that takes it, so that nobody learns who is tried. @default none is told */
  secret?: string | null;
  /** Tells the other copies what is locked, as lines of a heartbeat; all of it each time. @default none are told */
  share?: (lines: string[]) => Promise<void>;
  /** The lines of the other copies. @default none */
  heard?: () => readonly string[];
  log?: Logger;
  now?: () => number;
}

/**
 * Wrong passwords by name and by address, with waits that grow. Whether there is such a user makes no difference. What is
 * counted is counted by each copy for itself; what is locked by one is locked by all, a moment later.
 */
export class SignInLocks {
  readonly #failures = new Map<Guarded, Failures>();
  readonly #secret: string;
  readonly #share: SignInLocksOptions["share"];
  readonly #heard: () => readonly string[];
  readonly #log: Logger | undefined;
  readonly #now: () => number;
  #sharing: NodeJS.Timeout | null = null;

  constructor({ secret, share, heard, log, now }: SignInLocksOptions = {}) {
    this.#secret = secret ?? randomBytes(32).toString("hex");
    this.#share = share;
    this.#heard = heard ?? (() => []);
    this.#log = log;
    this.#now = now ?? Date.now;
  }

  /** Seconds until there may be another try; 0: now. */
  waitOf(...guarded: readonly Guarded[]): number {
    const now = this.#now();
    let until = 0;
    for (const key of guarded) until = Math.max(until, this.#current(key)?.until ?? 0);
    const ids = new Set(guarded.map((key) => this.#idOf(key)));
    for (const line of this.#heard()) {
      const [, id = "", time] = SHARED.exec(line) ?? [];
      // A clock that is ahead must not lock for longer.
      if (ids.has(id)) until = Math.max(until, Math.min(Number(time), now + MOST_LOCK_MS));
    }
    return Math.max(0, Math.ceil((until - now) / 1_000));
  }

  /** Counts a try as wrong, before that is known: of many at once not all are let through. */
  count(...guarded: readonly Guarded[]): void {
    const now = this.#now();
    for (const key of guarded) {
      const failures = this.#current(key) ?? { count: 0, last: 0, until: 0 };
      failures.count += 1;
      failures.last = now;
      const over = failures.count - FREE[key.startsWith("name:") ? "name" : "address"];
      if (over >= 0) {
        failures.until = now + Math.min(MOST_LOCK_MS, FIRST_MS * 2 ** Math.min(over, 20));
        this.#tell();
      }
      this.#failures.delete(key);
      this.#failures.set(key, failures);
      if (this.#failures.size > MOST_KEPT) this.#failures.delete(this.#failures.keys().next().value as Guarded);
    }
  }

  /** The try was right: the name begins anew, and its address has one less; whoever has an account could else clear an address. */
  right(name: `name:${string}`, address?: `address:${string}`): void {
    if ((this.#failures.get(name)?.until ?? 0) > this.#now()) this.#tell();
    this.#failures.delete(name);
    const failures = address === undefined ? undefined : this.#failures.get(address);
    if (failures === undefined) return;
    failures.count -= 1;
    if (failures.count < FREE.address) failures.until = 0;
  }

  close(): void {
    if (this.#sharing !== null) clearTimeout(this.#sharing);
  }

  #current(key: Guarded): Failures | undefined {
    const failures = this.#failures.get(key);
    return failures === undefined || Math.max(failures.last, failures.until) + FORGET_MS <= this.#now() ? undefined : failures;
  }

  #idOf(key: Guarded): string {
    return createHmac("sha256", this.#secret).update(`fraudstream sign-in ${key}`).digest("base64url").slice(0, 16);
  }

  /** Soon, all that is locked at once. */
  #tell(): void {
    if (this.#share === undefined || this.#sharing !== null) return;
    this.#sharing = setTimeout(() => {
      this.#sharing = null;
      const now = this.#now();
      const locked = [...this.#failures].filter(([, { until }]) => until > now).slice(-MOST_SHARED);
      this.#share?.(locked.map(([key, { until }]) => `sign-in-lock ${this.#idOf(key)} ${until}`)).catch((error: unknown) => this.#log?.warn(`other copies could not be told which sign-ins are locked: ${messageOf(error)}`));
    }, SHARE_AFTER_MS);
    this.#sharing.unref();
  }
}

/** The address that is counted: of IPv6 the network, since one machine has 2^64 addresses of it. */
export function countedAddress(ip: string): `address:${string}` {
  if (!ipaddr.isValid(ip)) return "address:unknown";
  const address = ipaddr.process(ip);
  return `address:${address.kind() === "ipv6" ? (address as ipaddr.IPv6).parts.slice(0, 4).map((part) => part.toString(16)).join(":") : address.toString()}`;
}
