import { setTimeout as sleep } from "node:timers/promises";

/**
 * Waits for work, but no longer than so many milliseconds. The work goes on then; what becomes of it is not looked at.
 *
 * @param late what is thrown when the time is over
 */
export async function within<T>(ms: number, work: Promise<T>, late: () => Error): Promise<T> {
  const done = new AbortController();
  work.catch(() => {});
  const timeIsOver = sleep(ms, undefined, { signal: done.signal }).then(() => Promise.reject(late()));
  timeIsOver.catch(() => {});
  try {
    return await Promise.race([work, timeIsOver]);
  } finally {
    done.abort();
  }
}

/** Waits for `work`, but no longer than until the signal aborts; then it throws the signal's reason. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
