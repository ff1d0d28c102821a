/**
 * A signal that aborts when `signal` does, or when a time has passed. (With AbortSignal.timeout in it, Node 20 may collect
 * the timeout as garbage before it fires.) The timer doesn't keep the process alive.
 *
 * @param ms null: no limit
 */
export function withTimeLimit(signal: AbortSignal, ms: number | null): AbortSignal {
  if (ms === null) return signal;
  const limit = new AbortController();
  setTimeout(() => limit.abort(), ms).unref();
  return AbortSignal.any([signal, limit.signal]);
}
