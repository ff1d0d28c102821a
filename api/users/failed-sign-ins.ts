const MOST_FAILURES = 50;
const WINDOW_MS = 10 * 60_000;
const MOST_NAMES = 50_000;

interface Failures { count: number; since: number }

/**
 * Wrong passwords by name, wherever they come from: limits by address alone don't stop somebody with many addresses.
 * Kept by each copy for itself, for the names that were tried last.
 */
export class FailedSignIns {
  readonly #names = new Map<string, Failures>();

  /** Seconds until this name may be tried again; 0: now. */
  waitOf(name: string): number {
    const failures = this.#current(name);
    return failures === undefined || failures.count < MOST_FAILURES ? 0 : Math.ceil((failures.since + WINDOW_MS - Date.now()) / 1000);
  }

  count(name: string): void {
    const failures = this.#current(name) ?? { count: 0, since: Date.now() };
    failures.count++;
    this.#names.delete(name);
    this.#names.set(name, failures);
    if (this.#names.size > MOST_NAMES) this.#names.delete(this.#names.keys().next().value as string);
  }

  forget(name: string): void {
    this.#names.delete(name);
  }

  #current(name: string): Failures | undefined {
    const failures = this.#names.get(name);
    return failures === undefined || failures.since + WINDOW_MS <= Date.now() ? undefined : failures;
  }
}
