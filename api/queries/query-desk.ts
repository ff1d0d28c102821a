import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { ClickHouse, ClickHouseReader } from "../../infra/clickhouse/client.js";
import { clickHouseErrorType } from "../../infra/clickhouse/errors.js";
import { unlessAborted, within } from "../../infra/async/within.js";
import { HttpProblem } from "../plugins/errors.js";

/**
 * What a request asks ClickHouse: `heavy` reads all of a window, `lookup` a few rows. Each kind has a share of its own.
 */
export type QueryKind = "heavy" | "lookup";

export interface Share {
  /** Requests that may run at a time. */
  atOnce: number;
  /** Requests that may wait; further ones are refused with Retry-After. */
  waiting: number;
  /** Of one user, asking or waiting. */
  ofUser: number;
  /** How long one request's questions may take, all together, milliseconds. */
  limitMs: number;
}

export const SHARES: Readonly<Record<QueryKind, Share>> = {
  heavy: { atOnce: 2, waiting: 10, ofUser: 6, limitMs: 25_000 },
  lookup: { atOnce: 6, waiting: 200, ofUser: 100, limitMs: 10_000 },
};
/** A question that takes longer is accompanied by another: is ClickHouse there at all? */
const LOOK_AFTER_MS = 2_500;
const PING_MS = 2_500;
const RETRY_AFTER = { "retry-after": "2" };

/** Queries ClickHouse for requests: a few at a time, for seconds at most, and only while the caller is connected. */
export class QueryDesk {
  readonly #clickhouse: ClickHouse;
  readonly #lines: Readonly<Record<QueryKind, Line>>;

  constructor(clickhouse: ClickHouse, shares: Readonly<Record<QueryKind, Share>> = SHARES) {
    this.#clickhouse = clickhouse;
    this.#lines = { heavy: new Line(shares.heavy), lookup: new Line(shares.lookup) };
  }

  /** How many requests ask, or wait, of a kind. */
  underWay(kind: QueryKind): number {
    return this.#lines[kind].size;
  }

  /**
   * Runs work that asks ClickHouse through the reader that it is given.
   *
   * @throws HttpProblem 503 `busy`, `query_too_long`, `clickhouse_unreachable`, each with Retry-After; 429
   *   `too_many_queries`
   */
  async ask<T>(
    kind: QueryKind,
    { user }: Pick<FastifyRequest, "user">,
    reply: FastifyReply,
    work: (clickhouse: ClickHouseReader) => Promise<T>,
  ): Promise<T> {
    const line = this.#lines[kind];
    const ending = new AbortController();
    const end = (problem: HttpProblem): void => ending.abort(problem);
    const onClose = (): void => end(new HttpProblem("caller_gone", "the caller has gone away"));
    if (reply.raw.destroyed) onClose();
    reply.raw.once("close", onClose);
    const timer = setTimeout(
      () =>
        end(
          new HttpProblem(
            "query_too_long",
            `this takes ClickHouse longer than ${line.share.limitMs / 1_000} s: ask for less, such as a shorter window`,
            { headers: RETRY_AFTER, told: true },
          ),
        ),
      line.share.limitMs,
    );
    try {
      await line.enter(user.id, ending.signal);
      try {
        void this.#watch(ending, end);
        return await unlessAborted(work(this.#readerFor(ending.signal, line.share.limitMs)), ending.signal);
      } finally {
        line.leave(user.id);
      }
    } catch (error) {
      if (ending.signal.aborted && !(error instanceof HttpProblem)) throw ending.signal.reason;
      if (clickHouseErrorType(error) === "TIMEOUT_EXCEEDED")
        throw new HttpProblem(
          "query_too_long",
          "this takes ClickHouse too long: ask for less, such as a shorter window",
          { headers: RETRY_AFTER, told: true, cause: error },
        );
      throw error;
    } finally {
      clearTimeout(timer);
      reply.raw.off("close", onClose);
      ending.abort();
    }
  }

  #readerFor(signal: AbortSignal, limitMs: number): ClickHouseReader {
    return {
      query: (sql, params, options) => {
        signal.throwIfAborted();
        return this.#clickhouse.query(sql, params, {
          ...options,
          signal,
          settings: { max_execution_time: Math.ceil(limitMs / 1_000), ...options?.settings },
        });
      },
    };
  }

  /** A server that is frozen answers nothing at all, a busy one a ping. */
  async #watch({ signal }: AbortController, end: (problem: HttpProblem) => void): Promise<void> {
    for (;;) {
      await sleep(LOOK_AFTER_MS, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      const there = await within(PING_MS, this.#clickhouse.ping(), () => new Error("no answer came in time")).catch(
        () => false,
      );
      if (!there)
        end(
          new HttpProblem("clickhouse_unreachable", "ClickHouse does not answer; try again later", {
            headers: RETRY_AFTER,
            told: true,
          }),
        );
    }
  }
}

/** Those who ask, and those who wait for it, in their order. */
class Line {
  readonly share: Share;
  readonly #waiting: (() => void)[] = [];
  readonly #ofUser = new Map<string, number>();
  #asking = 0;

  constructor(share: Share) {
    this.share = share;
  }

  get size(): number {
    return this.#asking + this.#waiting.length;
  }

  async enter(user: string, signal: AbortSignal): Promise<void> {
    const own = this.#ofUser.get(user) ?? 0;
    if (own >= this.share.ofUser)
      throw new HttpProblem("too_many_queries", `${own} queries of this user are under way: wait for one of them`, {
        headers: RETRY_AFTER,
      });
    if (this.#asking >= this.share.atOnce && this.#waiting.length >= this.share.waiting)
      throw new HttpProblem("busy", "too many queries are under way: try again later", {
        headers: RETRY_AFTER,
        told: true,
      });
    this.#ofUser.set(user, own + 1);
    try {
      if (this.#asking < this.share.atOnce) this.#asking++;
      else await this.#turn(signal);
      if (!signal.aborted) return;
      this.#next();
    } catch {
      // Gone while it waited.
    }
    this.#forget(user);
    throw signal.reason;
  }

  leave(user: string): void {
    this.#forget(user);
    this.#next();
  }

  /** The place goes straight to the one who has waited longest. */
  #next(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#asking--;
    else next();
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const take = (): void => {
        signal.removeEventListener("abort", drop);
        resolve();
      };
      const drop = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(take), 1);
        reject(new Error("aborted"));
      };
      this.#waiting.push(take);
      signal.addEventListener("abort", drop, { once: true });
    });
  }

  #forget(user: string): void {
    const left = (this.#ofUser.get(user) ?? 1) - 1;
    if (left === 0) this.#ofUser.delete(user);
    else this.#ofUser.set(user, left);
  }
}
