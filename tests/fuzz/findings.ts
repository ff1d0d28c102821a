/** What a fuzzer has found, with what is needed to see it again. */
export interface Finding {
  what: string;
  how: string;
}

const MOST_KEPT = 20;
const MOST_CPU_MS = 1_000;

/** Collects what went wrong, and watches that nothing takes more than a second of processor time. */
export class Findings {
  readonly found: Finding[] = [];
  count = 0;
  /** The longest that one piece of work took, processor time. */
  slowestMs = 0;

  add(what: string, how: string): void {
    this.count += 1;
    if (this.found.length < MOST_KEPT) this.found.push({ what, how });
  }

  /** Runs one piece of work. A machine that others use makes it wait; what it takes itself is what counts. */
  async timed<T>(how: () => string, work: () => Promise<T>): Promise<T> {
    const before = process.cpuUsage();
    try {
      return await work();
    } finally {
      const { user, system } = process.cpuUsage(before);
      const ms = (user + system) / 1_000;
      this.slowestMs = Math.max(this.slowestMs, ms);
      if (ms > MOST_CPU_MS) this.add(`took ${ms.toFixed(0)} ms of processor time`, how());
    }
  }
}

/** The name and message of whatever was thrown. */
export function told(error: unknown): string {
  return error instanceof Error
    ? `${error.name}: ${error.message}\n${(error.stack ?? "").split("\n").slice(1, 4).join("\n")}`
    : String(error);
}

/**
 * Card numbers and secrets of everything that is fuzzed begin with these: none may stand in a log, an answer or a
 * reason.
 */
export const CARD_MARK = "411111111111";
export const SECRET_MARK = "s3cr3t-of-the-fuzzer";
