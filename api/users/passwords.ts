import { randomBytes } from "node:crypto";
import argon2 from "argon2";
import { FraudstreamError } from "../../schemas/errors.js";

/** OWASP's first choice for argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one lane. */
const PARAMETERS = { type: argon2.argon2id, memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;
/** Each takes 19 MiB and a thread of libuv's four, which file reading and DNS need, too. */
const AT_ONCE = 2;
const MOST_WAITING = 64;
/** And so many of those who go first. */
const MOST_FIRST = 32;

/** Hashes and checks passwords, off the event loop, a few at a time. */
export class PasswordHasher {
  readonly #waiting: (() => void)[] = [];
  readonly #first: (() => void)[] = [];
  #running = 0;
  #decoy: Promise<string> | null = null;

  /** The argon2id hash of a password, encoded with its salt and parameters. @throws FraudstreamError `busy` */
  hash(password: string): Promise<string> {
    return this.#inTurn(() => argon2.hash(password, PARAMETERS));
  }

  /**
   * True when a password has this hash. Without a hash (no such user, or one without a password) it takes as long and
   * is false, so that time doesn't tell which names exist.
   *
   * @param first whether it goes before the others: a flood of tries must not keep those out who have signed in before
   * @throws FraudstreamError `busy`
   */
  async verify(hash: string | null, password: string, { first = false }: { first?: boolean } = {}): Promise<boolean> {
    this.#decoy ??= argon2.hash(randomBytes(32), PARAMETERS);
    const decoy = await this.#decoy;
    const matches = await this.#inTurn(() => argon2.verify(hash ?? decoy, password), first);
    return matches && hash !== null;
  }

  async #inTurn<T>(work: () => Promise<T>, first = false): Promise<T> {
    if (this.#running >= AT_ONCE) {
      const line = first ? this.#first : this.#waiting;
      if (line.length >= (first ? MOST_FIRST : MOST_WAITING))
        throw new FraudstreamError("busy", "too many passwords are being checked at once");
      await new Promise<void>((resolve) => line.push(resolve));
    } else {
      this.#running++;
    }
    try {
      return await work();
    } finally {
      // The turn passes to the next in line, if there is one.
      const next = this.#first.shift() ?? this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}
