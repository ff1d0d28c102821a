import { ACCEPTED, CardHistory, TOO_LATE } from "../../../../models/features/card-history.js";
import type { HistoryRows } from "../../../../models/features/history-rows.js";
import { historyFeature } from "../../../../models/features/history-features.js";
import { HistoryPlan, historySlotsOf } from "../../../../models/features/history-plan.js";
import {
  LATENESS_MS,
  LEAP_MS,
  LONGEST_WINDOW_MS,
  MAX_CARD_EVENTS,
  REPEAT_HORIZON_MS,
  RETENTION_MS,
} from "../../../../models/features/history-terms.js";

export interface CardEvent {
  id: string;
  card?: string;
  merchant?: string;
  time: number;
  amount?: number;
}

export function planOf(names: readonly string[]): HistoryPlan {
  return new HistoryPlan(
    historySlotsOf([
      names.map((name) => {
        const spec = historyFeature(name);
        if (spec === null) throw new Error(`${name} is no windowed feature`);
        return spec;
      }),
    ]),
  );
}

/** Columns of one transaction, behind other bytes, as they stand in what was fetched. */
export function rowOf({ id, card = "c", merchant = "m", time, amount = 1 }: CardEvent): HistoryRows {
  const parts = [id, card, merchant].map((text) => Buffer.from(text));
  const at = [2, 2 + parts[0].length, 2 + parts[0].length + parts[1].length];
  const column = (value: number): Int32Array => Int32Array.of(value);
  return {
    eventTime: Float64Array.of(time),
    amount: Float64Array.of(amount),
    bytes: [Buffer.concat([Buffer.from("xy"), ...parts])],
    transactionIdAt: column(at[0]),
    transactionIdLength: column(parts[0].length),
    cardIdAt: column(at[1]),
    cardIdLength: column(parts[1].length),
    merchantIdAt: column(at[2]),
    merchantIdLength: column(parts[2].length),
  };
}

/** Folds one event. The offset is a count of those that were folded, so that a repeat names its first. */
export class Folder {
  history: CardHistory;
  readonly plan: HistoryPlan;
  offset = 0;

  constructor(names: readonly string[], history = new CardHistory()) {
    this.plan = planOf(names);
    this.history = history;
  }

  fold(event: CardEvent): { answer: number; values: number[] } {
    const out = new Float64Array(this.plan.size + 2).fill(-7);
    const answer = this.history.fold(rowOf(event), 0, this.offset++, this.plan, null, out, 1);
    if (out[0] !== -7 || out.at(-1) !== -7) throw new Error("written outside of the row");
    return { answer, values: [...out.subarray(1, -1)] };
  }

  /** The values of an event that is accepted. */
  values(event: CardEvent): number[] {
    const { answer, values } = this.fold(event);
    if (answer !== ACCEPTED) throw new Error(`answered ${answer}`);
    return values;
  }
}

interface NaiveEvent {
  id: string;
  merchant: string;
  time: number;
  amount: number;
  offset: number;
}

/**
 * The same by the words of decision 0006, keeping everything: count, sum, mean, max, std, distinct merchants, amount
 * over mean.
 */
export class NaiveHistory {
  clock = -Infinity;
  #leap = Number.NaN;
  readonly cards = new Map<string, NaiveEvent[]>();
  offset = 0;

  copy(): NaiveHistory {
    const copy = new NaiveHistory();
    copy.clock = this.clock;
    copy.#leap = this.#leap;
    copy.offset = this.offset;
    for (const [card, events] of this.cards) copy.cards.set(card, [...events]);
    return copy;
  }

  fold(
    { id, card = "c", merchant = "m", time, amount = 1 }: CardEvent,
    windows: readonly number[],
  ): { answer: number; values: number[] } {
    const offset = this.offset++;
    const clock = Math.max(this.clock, time);
    const own = this.cards.get(card) ?? [];
    const place = own.findIndex((event) => event.time <= time);
    const list = [...own];
    const current = { id, merchant, time, amount, offset };
    list.splice(place < 0 ? own.length : place, 0, current);
    const counting = list.filter((event, rank) => rank < MAX_CARD_EVENTS && event.time > clock - RETENTION_MS);
    const others = counting.filter((event) => event !== current);
    const first = others.find((event) => event.id === id && Math.abs(event.time - time) <= REPEAT_HORIZON_MS);
    if (first !== undefined) return { answer: first.offset, values: [] };
    const before = others.filter((event) => list.indexOf(event) > list.indexOf(current));
    const values = windows.flatMap((window) => {
      const met = [current, ...before.filter((event) => event.time > time - window)];
      const amounts = met.map((event) => event.amount);
      const sum = amounts.reduce((total, value) => total + value, 0);
      const mean = sum / met.length;
      const std = Math.sqrt(amounts.reduce((total, value) => total + (value - mean) ** 2, 0) / met.length);
      return [
        met.length,
        sum,
        mean,
        Math.max(...amounts),
        std,
        new Set(met.map((event) => event.merchant)).size,
        mean > 0 ? amount / mean : Number.NaN,
      ];
    });
    const last = before.at(0);
    values.push(last === undefined || time - last.time > LONGEST_WINDOW_MS ? Number.NaN : (time - last.time) / 1000);
    const answer = time < this.clock - LATENESS_MS ? TOO_LATE : ACCEPTED;
    const leaps = time > this.clock + LEAP_MS && this.clock !== -Infinity;
    if (!leaps) this.clock = clock;
    else if (!Number.isNaN(this.#leap)) this.clock = Math.min(this.#leap, time);
    this.#leap = leaps ? time : Number.NaN;
    this.cards.set(card, list);
    return { answer, values };
  }
}
