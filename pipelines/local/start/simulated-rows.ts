import { setTimeout as sleep } from "node:timers/promises";
import type { Dataset } from "../../../models/datasets/dataset.js";
import { VisitorPayments, simulate, type SimulationOptions } from "../simulator/simulate.js";
import { UsageError } from "../../../schemas/errors.js";
import type { Rows } from "../replay/label-schedule.js";
import type { SimulatedState } from "./start-state.js";

const DAY_MS = 86_400_000;
/** How far back the simulated time begins. */
export const HISTORY_DAYS = 63;
/**
 * What the first model learns from: long enough for a month's windows, and the week that labels take, to be full in its
 * last week, which drift compares with. Three weeks are left to measure it on.
 */
export const TRAINING_DAYS = 42;
const CLOCK_TICK_MS = 100;
/** A terminal for so many customers. */
const CUSTOMERS_A_TERMINAL = 5;

export const DEFAULT_SEED = 1;
export const DEFAULT_CUSTOMERS = 2_000;
/** Payments that are made at once: a third of a second at the rate that is watched. */
const VISITORS_AT_ONCE = 100;

/**
 * The simulated town that a DATA_DIR has, or a new one: it begins nine weeks ago.
 *
 * @throws UsageError `another_simulation` when a seed or number of customers is asked for that the existing one doesn't
 *   have
 */
export function continueOrBegin(
  known: SimulatedState | null,
  asked: { seed: number | null; customers: number | null },
  now: number,
): SimulatedState {
  const { seed = DEFAULT_SEED, customers = DEFAULT_CUSTOMERS } = {
    seed: asked.seed ?? undefined,
    customers: asked.customers ?? undefined,
  };
  if (known === null) return beginSimulation(seed, customers, now);
  if ((asked.seed ?? known.seed) !== known.seed || (asked.customers ?? known.customers) !== known.customers) {
    throw new UsageError(
      "another_simulation",
      `this DATA_DIR has simulated payments of seed ${known.seed} with ${known.customers} customers: leave ` +
        "out --seed and --customers to continue them, or use another DATA_DIR",
    );
  }
  return known;
}

function beginSimulation(seed: number, customers: number, now: number): SimulatedState {
  const began = Math.floor(now / DAY_MS - HISTORY_DAYS) * DAY_MS;
  return {
    seed,
    customers,
    terminals: Math.max(2, Math.ceil(customers / CUSTOMERS_A_TERMINAL)),
    began,
    until: began,
    labelled_until: began,
  };
}

/** What the first model is trained on. */
export function trainingRange(state: SimulatedState): SimulationOptions {
  return { ...townOf(state), from: state.began, to: trainingEnd(state.began) };
}

function trainingEnd(began: number): number {
  return began + TRAINING_DAYS * DAY_MS;
}

function townOf({
  seed,
  customers,
  terminals,
}: SimulatedState): Pick<SimulationOptions, "seed" | "customers" | "terminals"> {
  return { seed, customers, terminals };
}

/** Transactions that an earlier run published, or may have, without their labels. */
export function* unlabelledRows(state: SimulatedState): Generator<Rows> {
  for (const dataset of simulate({ ...townOf(state), from: state.labelled_until, to: state.until })) yield all(dataset);
}

export interface SimulatedRowsOptions {
  state: SimulatedState;
  /** Event time before which it ends. @default never */
  to?: number;
  /** At most so many rows; null: without end. */
  limit: number | null;
  /** At the clock: true waits for it to go on, false ends. */
  wait: boolean;
  /** Notes durably that transactions before this event time may be published, before they are given out. */
  reserve(until: number): Promise<void>;
  signal: AbortSignal;
  now?: () => number;
}

/** Simulated transactions from where the state stands; none is later than the clock. */
export async function* simulatedRows(options: SimulatedRowsOptions): AsyncGenerator<Rows, void, void> {
  const { state, to = Number.POSITIVE_INFINITY, signal, now = Date.now } = options;
  let left = options.limit ?? Number.POSITIVE_INFINITY;
  // Days are made one at a time, when they are asked for.
  for (const dataset of simulate({ ...townOf(state), from: state.until, to: Math.max(state.until, to) })) {
    for (let start = 0; start < dataset.length && left > 0;) {
      const end = firstAfter(dataset.eventTime, now());
      if (end <= start) {
        if (!options.wait) return;
        await sleep(CLOCK_TICK_MS, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) return;
        continue;
      }
      const rows = { dataset, start, end: Math.min(end, start + left) };
      // Rows of one millisecond stay together, as the reservation is by time.
      while (rows.end < end && dataset.eventTime[rows.end] === dataset.eventTime[rows.end - 1]) rows.end++;
      await options.reserve(dataset.eventTime[rows.end - 1] + 1);
      yield rows;
      left -= rows.end - start;
      start = rows.end;
    }
    if (left <= 0 || signal.aborted) return;
  }
}

export interface PresentRowsOptions {
  state: SimulatedState;
  /** At most so many rows; null: without end. */
  limit: number | null;
  /** As for `simulatedRows`, of the town's own payments. */
  reserve(until: number): Promise<void>;
  signal: AbortSignal;
  now?: () => number;
}

/**
 * Payments that happen now, in order: those of visitors, as many as are taken, and among them those of the town's own
 * customers whose time has come. None lies before what `state.until` says.
 */
export async function* presentRows(options: PresentRowsOptions): AsyncGenerator<Rows, void, void> {
  const { state, limit, signal, now = Date.now } = options;
  let last = Math.max(state.until, now() - CLOCK_TICK_MS);
  const visitors = new VisitorPayments(townOf(state), last);
  const days = simulate({ ...townOf(state), from: state.until, to: Number.POSITIVE_INFINITY });
  let own = { ...all((days.next() as IteratorYieldResult<Dataset>).value), end: 0 };
  for (let left = limit ?? Number.POSITIVE_INFINITY; left > 0 && !signal.aborted;) {
    const due = now();
    own = { ...own, start: own.end, end: Math.min(firstAfter(own.dataset.eventTime, due), own.end + left) };
    if (own.end > own.start) {
      await options.reserve(own.dataset.eventTime[own.end - 1] + 1);
      yield own;
      left -= own.end - own.start;
    }
    if (own.end === own.dataset.length) {
      own = { ...all((days.next() as IteratorYieldResult<Dataset>).value), end: 0 };
      continue;
    }
    const count = Math.min(left, VISITORS_AT_ONCE);
    if (count === 0) return;
    if (due > last) {
      yield all(visitors.next(count, last, due));
      left -= count;
      last = due;
    } else await sleep(1, undefined, { signal }).catch(() => undefined);
  }
}

/** Index of the first time after `now`; by bisection. */
function firstAfter(times: Float64Array, now: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (times[middle] <= now) low = middle + 1;
    else high = middle;
  }
  return low;
}

function all(dataset: Dataset): Rows {
  return { dataset, start: 0, end: dataset.length };
}
