import { setTimeout as sleep } from "node:timers/promises";

/** Asks until the answer is there: neither undefined nor false. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  patienceMs = 60_000,
): Promise<T> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`it never came to be that ${what}`);
    await sleep(20);
  }
}

/** Waits until a check holds; the error quotes it. */
export async function until(check: () => Promise<boolean> | boolean, patienceMs?: number): Promise<void> {
  await eventually(String(check), check, patienceMs);
}
