/**
 * What a run without faults must make of a partition of transactions, worked out from the definitions in
 * infra/decisions/0006-history.md, record by record and with nothing of the code under test.
 */

import { ReferenceClock } from "../support/reference-clock.js";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const DELAY_MS = 7 * DAY_MS;
const RETENTION_MS = 30 * DAY_MS + DELAY_MS + 2 * HOUR_MS + DAY_MS;
const MAX_CARD_EVENTS = 4_096;

export const WINDOWS = { PT1H: HOUR_MS, P1D: DAY_MS, P7D: 7 * DAY_MS } as const;
const LENGTHS = Object.values(WINDOWS);
/** Of each window, in this order; behind all windows seconds_since_last. */
export const AGGREGATES = ["count", "sum", "mean", "max", "distinct_merchants", "amount_over_mean"] as const;
export const VALUES = LENGTHS.length * AGGREGATES.length + 1;

export interface Payment {
  id: string;
  card: string;
  merchant: string;
  amount: number;
  time: number;
}

interface Event {
  time: number;
  amount: number;
  merchant: string;
  id: string;
  offset: number;
}

export type Verdict = { kind: "accepted"; late: boolean } | { kind: "repeated"; of: number };

/** The cards of one partition. */
export class CardsReference {
  readonly #cards = new Map<string, Event[]>();
  readonly #clock = new ReferenceClock();

  /** @param values where the windows' values are written, VALUES of them */
  fold(payment: Payment, offset: number, scored: boolean, values: Float64Array): Verdict {
    const { time, id } = payment;
    const events = this.#cards.get(payment.card) ?? [];
    const floor = Math.max(this.#clock.time, time) - RETENTION_MS;
    let at = events.length;
    while (at > 0 && events[at - 1].time > time) at -= 1;
    const oldest = Math.max(0, events.length + 1 - MAX_CARD_EVENTS);
    for (let i = events.length - 1; i >= oldest && events[i].time >= time - DAY_MS; i--) {
      const event = events[i];
      if (event.id === id && event.time > floor && Math.abs(event.time - time) <= DAY_MS)
        return { kind: "repeated", of: event.offset };
    }
    if (!scored) return { kind: "accepted", late: false };
    this.#measure(payment, events, at, oldest, floor, values);
    const late = time < this.#clock.time - DAY_MS;
    this.#clock.advance(time);
    if (time > floor) {
      events.splice(at, 0, { time, amount: payment.amount, merchant: payment.merchant, id, offset });
      this.#cards.set(payment.card, events);
    }
    return { kind: "accepted", late };
  }

  #measure(
    { time, amount, merchant }: Payment,
    events: readonly Event[],
    at: number,
    oldest: number,
    floor: number,
    values: Float64Array,
  ): void {
    let count = 1;
    let sum = amount;
    let max = amount;
    const merchants = new Set([merchant]);
    let i = at - 1;
    for (const [window, length] of LENGTHS.entries()) {
      for (; i >= oldest && events[i].time > time - length && events[i].time > floor; i--) {
        count += 1;
        sum += events[i].amount;
        max = Math.max(max, events[i].amount);
        merchants.add(events[i].merchant);
      }
      const mean = sum / count;
      values.set([count, sum, mean, max, merchants.size, mean > 0 ? amount / mean : 0], window * AGGREGATES.length);
    }
    const before = at - 1 >= oldest && events[at - 1].time > floor ? time - events[at - 1].time : Infinity;
    values[VALUES - 1] = before <= 30 * DAY_MS ? before / 1_000 : 0;
  }
}

/** A transaction of a bucket. */
export interface Counted {
  /** When it was sent, and when it could be read at the latest, epoch milliseconds. */
  at: number;
  readable: number;
  isFraud: boolean;
  /** From when on its label may or may not count. */
  uncertainFrom: number;
}

/** The hours of merchants as one source partition must seal them: how many, and of those how many frauds. */
export class BucketsReference {
  /** `<hour>/<merchant>`: the transactions that belong there. */
  readonly buckets = new Map<string, Counted[]>();
  readonly #seen = new Set<string>();
  #sealed = -Infinity;
  readonly #clock = new ReferenceClock();

  add({ id, card, merchant, time }: Payment, counted: Counted): void {
    const key = `${card} ${id}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.#clock.advance(time);
    this.#sealed = Math.max(this.#sealed, Math.floor((this.#clock.time - DELAY_MS) / HOUR_MS));
    const hour = Math.floor(time / HOUR_MS);
    if (hour < this.#sealed) return;
    const bucket = this.buckets.get(`${hour}/${merchant}`) ?? [];
    bucket.push(counted);
    this.buckets.set(`${hour}/${merchant}`, bucket);
  }
}

/** Published buckets of all partitions, added up. */
export class MerchantSums {
  readonly #merchants = new Map<string, Map<number, { count: number; frauds: number }>>();

  add(merchant: string, hour: number, count: number, frauds: number): void {
    const hours = this.#merchants.get(merchant) ?? new Map<number, { count: number; frauds: number }>();
    this.#merchants.set(merchant, hours);
    const sum = hours.get(hour) ?? { count: 0, frauds: 0 };
    sum.count += count;
    sum.frauds += frauds;
    hours.set(hour, sum);
  }

  /** The window's whole hours, as seen at an event time. */
  at(merchant: string, time: number, windowMs: number): { count: number; fraud_share: number } {
    const hours = this.#merchants.get(merchant);
    const to = Math.floor((time - DELAY_MS) / HOUR_MS) - 1;
    let count = 0;
    let frauds = 0;
    if (hours !== undefined) {
      for (let hour = to - windowMs / HOUR_MS; hour < to; hour++) {
        const bucket = hours.get(hour);
        count += bucket?.count ?? 0;
        frauds += bucket?.frauds ?? 0;
      }
    }
    return { count, fraud_share: count === 0 ? 0 : frauds / count };
  }
}
