/**
 * A signal that aborts when one of `signals` does, with its reason. Unlike that of AbortSignal.any it does not depend
 * on what the garbage collector keeps: on Node 24 such a signal misses the abort of a source without other references.
 */
export function anySignal(...signals: readonly AbortSignal[]): AbortSignal {
  const any = new AbortController();
  const abort = ({ target }: { target: EventTarget | null }): void => {
    for (const signal of signals) signal.removeEventListener("abort", abort);
    any.abort((target as AbortSignal).reason);
  };
  const aborted = signals.find((signal) => signal.aborted);
  if (aborted !== undefined) any.abort(aborted.reason);
  else for (const signal of signals) signal.addEventListener("abort", abort);
  return any.signal;
}

/**
 * A signal that aborts when `signal` does, or when a time has passed. The timer doesn't keep the process alive.
 *
 * @param ms null: no limit
 */
export function withTimeLimit(signal: AbortSignal, ms: number | null): AbortSignal {
  if (ms === null) return signal;
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), ms).unref();
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true, signal: limit.signal });
  return anySignal(signal, limit.signal);
}
