import { setTimeout as sleep } from "node:timers/promises";
import { FraudstreamError } from "../../schemas/errors.js";

export interface Backoff {
  /** The longest first pause, milliseconds; it doubles with each try. */
  firstMs: number;
  /** No pause is longer. */
  mostMs: number;
  /** Ends the waiting with its reason. */
  signal: AbortSignal;
  /** Called with each failure that is tried again. */
  onRetry?: (error: FraudstreamError, attempt: number) => void;
}

/**
 * Runs `work` until it succeeds; an error that isn't retriable is thrown. Pauses grow exponentially, each a random part
 * of it.
 */
export async function retried<T>(work: () => Promise<T>, { firstMs, mostMs, signal, onRetry }: Backoff): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof FraudstreamError) || !error.retriable) throw error;
      onRetry?.(error, attempt);
      const longest = Math.min(mostMs, firstMs * 2 ** (attempt - 1));
      await sleep(longest * (0.5 + Math.random() / 2), undefined, { signal });
    }
  }
}
