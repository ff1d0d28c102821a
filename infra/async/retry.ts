import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../logging.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";

/** What is waited before a failed operation is tried again. The pause doubles with each try. */
export interface RetryPolicy {
  firstMs: number;
  /** No pause is longer. */
  mostMs: number;
  /** How long it is tried; absent: as long as it takes. */
  forMs?: number;
  /** Each pause is a random part of itself, half at least: for many clients of one server. */
  jitter?: boolean;
}

/** Everything that is tried again, and what happens while Kafka or ClickHouse is away. */
export const RETRY = {
  /**
   * A request to Kafka. The first pauses are short: a transaction that is still completing is done within milliseconds.
   */
  kafkaRequest: { firstMs: 5, mostMs: 1_000, forMs: 30_000 },
  /** A question to Kafka at a role's start. */
  kafkaAtStart: { firstMs: 5, mostMs: 1_000, forMs: 60_000 },
  /** The same by a client of kafkajs, beside the tries of its own. */
  kafkajsAtStart: { firstMs: 500, mostMs: 500, forMs: 60_000 },
  /** A question that goes round among brokers, some of which are silent, before it is the caller's to try again. */
  nextBroker: { firstMs: 100, mostMs: 100, forMs: 10_000 },
  /** A topic that was just made isn't known to every broker yet. */
  newTopic: { firstMs: 50, mostMs: 50, forMs: 30_000 },
  /** A schema whose id the registry doesn't know yet. */
  unknownSchema: { firstMs: 100, mostMs: 1_000 },
  /** A partition that is taken over anew after trouble with Kafka. */
  partition: { firstMs: 100, mostMs: 2_000 },
  /** What follows a log, or publishes what must not be lost, while Kafka is away. */
  away: { firstMs: 1_000, mostMs: 1_000 },
  /** A role's start waits for its servers. */
  servers: { firstMs: 1_000, mostMs: 1_000, forMs: 60_000 },
  /** The sink while ClickHouse is away: it stores nothing meanwhile and commits no offsets. */
  clickhouse: { firstMs: 200, mostMs: 10_000, jitter: true },
  /** The sink's tables at its start. */
  migration: { firstMs: 200, mostMs: 5_000, jitter: true },
} as const satisfies Record<string, RetryPolicy>;

export interface RetryOptions {
  /** Ends it: what `work` threw last is thrown, or the pause's AbortError. */
  signal?: AbortSignal | undefined;
  /** Which errors are worth another try. @default those marked retriable */
  again?: (error: unknown) => boolean;
  /** Called before each pause. */
  onRetry?: (error: unknown, attempt: number, pause: number) => void;
}

/** A policy with its options, where both come from outside. */
export interface Backoff extends RetryPolicy, RetryOptions {
  signal: AbortSignal;
}

/** Repeats what fails, after a policy's pauses, for the policy's time. @throws what `work` threw last */
export async function retry<T>(work: () => Promise<T>, policy: RetryPolicy, options: RetryOptions = {}): Promise<T> {
  const { signal, again = isRetriable, onRetry } = options;
  const deadline = performance.now() + (policy.forMs ?? Infinity);
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const pause = pauseBefore(policy, attempt);
      if (signal?.aborted === true || !again(error) || performance.now() + pause >= deadline) throw error;
      onRetry?.(error, attempt, pause);
      await sleep(pause, undefined, signal && { signal });
    }
  }
}

/** The pause after a number of failures, milliseconds. */
export function pauseBefore({ firstMs, mostMs, jitter = false }: RetryPolicy, failures: number): number {
  const pause = Math.min(mostMs, firstMs * 2 ** (failures - 1));
  return jitter ? pause * (0.5 + Math.random() / 2) : pause;
}

/**
 * The pause of a loop that goes on after trouble, however long it lasts.
 *
 * @throws the error, where it doesn't pass by itself or the signal has aborted
 */
export async function waitOut(error: unknown, log: Logger, signal: AbortSignal): Promise<void> {
  if (signal.aborted || !isRetriable(error)) throw error;
  const { firstMs } = RETRY.away;
  log.warn({ code: error.code, retryInMs: firstMs }, messageOf(error));
  await sleep(firstMs, undefined, { signal }).catch(() => {});
}

function isRetriable(error: unknown): error is FraudstreamError {
  return error instanceof FraudstreamError && error.retriable;
}
