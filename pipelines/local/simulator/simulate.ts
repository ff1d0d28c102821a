import type { AttributeColumn, Dataset } from "../../../models/datasets/dataset.js";
import { UsageError } from "../../../schemas/errors.js";
import { FRAUD, compromisedTerminals, stolenCards } from "./fraud.js";
import {
  CATEGORIES,
  STREAM,
  createPopulation,
  customersAt,
  distanceKm,
  type Customer,
  type Population,
  type Terminal,
} from "./population.js";
import { Random } from "./random.js";

/** What to simulate. */
export interface SimulationOptions {
  /** A whole number; the same one always gives the same customers, terminals and payments. */
  seed: number;
  /** Cards; one each customer. */
  customers: number;
  /** At least 2: one in a street and one online. */
  terminals: number;
  /** First event time, and the one before which it ends; epoch milliseconds. */
  from: number;
  to: number;
}

/** A payment's label becomes known this long after it. */
export const LABEL_DELAY_MS = 7 * 86_400_000;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const CHANNELS = ["chip", "contactless", "magstripe", "online"];
type Channel = "chip" | "contactless" | "magstripe" | "online";

interface Payment {
  time: number;
  customer: number;
  terminal: number;
  amount: number;
  channel: Channel;
  /** Of an online payment. */
  knownDevice: boolean;
  fraud: boolean;
}

/**
 * Card payments of a made-up town, one `Dataset` a UTC day that has any, in event-time order, made as they are asked
 * for.
 * The idea is the Fraud Detection Handbook's generator (see fraud.ts); customers have habits (home, amounts, frequency,
 * nights, weekends, usual terminals), and each payment has the attributes `channel` (chip, contactless, magstripe,
 * online), `category` of the merchant, `card_present`, `distance_km` from home to terminal (absent online) and
 * `known_device` (absent at a terminal). About 0.9% are fraud.
 * Each card's payments of a day depend on seed, card and day alone. So a range gives the same payments however it is
 * cut into calls, a call that starts where another ended continues it, and transaction ids (`s<seed>-<day>-<n>`, n
 * counted over the whole day) don't repeat.
 *
 * @throws UsageError `bad_simulation`
 */
export function* simulate(options: SimulationOptions): Generator<Dataset, void, void> {
  const { seed, customers, terminals, from, to } = options;
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new UsageError("bad_simulation", `the seed is ${seed}; it must be a whole number, not negative`);
  if (!(customers >= 1) || !(terminals >= 2))
    throw new UsageError("bad_simulation", "a simulation needs at least one customer and two terminals");
  if (!(from <= to)) throw new UsageError("bad_simulation", "a simulation can't end before it starts");
  const population = createPopulation(seed, customers, terminals);
  for (let day = Math.floor(from / DAY_MS); day * DAY_MS < to; day++) {
    const chunk = toDataset(population, seed, day, simulateDay(population, seed, day), from, to);
    if (chunk.length > 0) yield chunk;
  }
}

/** Cards of visitors: so many that hardly one pays twice in an hour. */
const VISITORS = 10_000_000;

/**
 * Payments of visitors to a town, as many as are asked for at any time: cards that nobody has seen before, at the
 * town's terminals. The town's own customers pay two or three times a day, which is too little to watch.
 */
export class VisitorPayments {
  readonly #seed: number;
  readonly #customers: number;
  readonly #run: number;
  readonly #terminals: Terminal[];
  readonly #customerAt: (index: number) => Customer;
  #made = 0;

  /**
   * @param run distinguishes payments of one run from those of another with the same seed: a whole number, such as the
   *   time it began
   */
  constructor(
    { seed, customers, terminals }: Pick<SimulationOptions, "seed" | "customers" | "terminals">,
    run: number,
  ) {
    this.#seed = seed;
    this.#customers = customers;
    this.#run = run;
    this.#terminals = createPopulation(seed, 0, terminals).terminals;
    this.#customerAt = customersAt(seed, this.#terminals);
  }

  /** The next `count` payments, their event times spread evenly over from < t ≤ to. */
  next(count: number, from: number, to: number): Dataset {
    const day = Math.floor(to / DAY_MS);
    const compromised = compromisedTerminals(this.#seed, this.#terminals.length, day);
    const visitors: Customer[] = [];
    const payments: Payment[] = [];
    for (let i = 0; i < count; i++) {
      const random = new Random(this.#seed, STREAM.visits, this.#run, this.#made + i);
      visitors.push(this.#customerAt(this.#customers + random.below(VISITORS)));
      const stolen = random.chance(FRAUD.stolenCard.startsPerDay * FRAUD.stolenCard.days);
      const payment = simulatePayment(
        random,
        { customers: visitors, terminals: this.#terminals },
        i,
        day,
        stolen,
        compromised,
      );
      payments.push({ ...payment, time: Math.floor(from + ((to - from) * (i + 1)) / count) });
    }
    const first = this.#made;
    this.#made += count;
    const dataset = toDataset(
      { customers: visitors, terminals: this.#terminals },
      this.#seed,
      day,
      payments,
      Number.NEGATIVE_INFINITY,
      Number.POSITIVE_INFINITY,
    );
    return {
      ...dataset,
      transactionId: payments.map((_, i) => `v${this.#seed}-${this.#run.toString(36)}-${first + i}`),
    };
  }
}

/** The same as one data set, for training. */
export function simulateDataset(options: SimulationOptions): Dataset {
  return concatenate([...simulate(options)], `simulated (seed ${options.seed})`);
}

/** All payments of a UTC day, in order of time; ties in order of cards. */
function simulateDay(population: Population, seed: number, day: number): Payment[] {
  const { customers, terminals } = population;
  const compromised = compromisedTerminals(seed, terminals.length, day);
  const stolen = stolenCards(seed, customers.length, day);
  // 1970-01-01 was a Thursday.
  const weekend = [0, 6].includes((day + 4) % 7);
  const payments: Payment[] = [];
  for (let i = 0; i < customers.length; i++) {
    const customer = customers[i];
    const random = new Random(seed, STREAM.payments, i, day);
    const count = random.poisson(customer.perDay * (weekend ? customer.weekendFactor : 1));
    for (let n = 0; n < count; n++)
      payments.push(simulatePayment(random, population, i, day, stolen[i] === 1, compromised));
  }
  return payments.sort((a, b) => a.time - b.time || a.customer - b.customer);
}

function simulatePayment(
  random: Random,
  population: Population,
  index: number,
  day: number,
  stolen: boolean,
  compromised: Uint8Array,
): Payment {
  const customer = population.customers[index];
  if (random.chance(FRAUD.large.share)) return largePurchase(random, population, index, day);
  if (stolen && random.chance(FRAUD.stolenCard.share)) return stolenCardPayment(random, population, index, day);
  const online = random.chance(customer.online);
  const terminal = choose(random, online ? customer.onlineShops : customer.shops);
  const payment: Payment = {
    time: timeOfDay(random, day, customer.night),
    customer: index,
    terminal,
    amount: usualAmount(random, customer, population.terminals[terminal].factor),
    channel: online ? "online" : usualChannel(random),
    knownDevice: random.chance(0.93),
    fraud: false,
  };
  if (compromised[terminal] === 0 || !random.chance(FRAUD.compromisedTerminal.share)) return payment;
  // The copied card is used at the same terminal, often with its stripe, online often from the thief's own device.
  return {
    ...payment,
    amount: cents(payment.amount * random.between(0.9, 2.2)),
    channel: !online && random.chance(0.6) ? "magstripe" : payment.channel,
    knownDevice: payment.knownDevice && random.chance(0.45),
    fraud: true,
  };
}

function largePurchase(random: Random, population: Population, customer: number, day: number): Payment {
  const online = random.chance(FRAUD.large.online);
  return {
    time: timeOfDay(random, day, 0.25),
    customer,
    terminal: anyTerminal(random, population, online),
    amount: cents(FRAUD.large.least + random.exponential(FRAUD.large.mean)),
    channel: online ? "online" : usualChannel(random),
    knownDevice: random.chance(0.4),
    fraud: true,
  };
}

function stolenCardPayment(random: Random, population: Population, customer: number, day: number): Payment {
  const online = random.chance(0.3);
  const terminal = anyTerminal(random, population, online);
  const factor = random.between(FRAUD.stolenCard.leastFactor, FRAUD.stolenCard.mostFactor);
  return {
    time: timeOfDay(random, day, 0.2),
    customer,
    terminal,
    amount: cents(usualAmount(random, population.customers[customer], population.terminals[terminal].factor) * factor),
    // Without the PIN: contactless or the stripe.
    channel: online ? "online" : random.chance(0.7) ? "contactless" : "magstripe",
    knownDevice: random.chance(0.3),
    fraud: true,
  };
}

function usualAmount(random: Random, customer: Customer, factor: number): number {
  const amount = random.normal(customer.mean, customer.deviation);
  return cents((amount > 0 ? amount : random.between(0.05, 2) * customer.mean) * factor);
}

function usualChannel(random: Random): Channel {
  const draw = random.uniform();
  return draw < 0.03 ? "magstripe" : draw < 0.55 ? "contactless" : "chip";
}

/** Most payments around two in the afternoon; the night has its own share. */
function timeOfDay(random: Random, day: number, night: number): number {
  const hour = random.chance(night) ? random.between(0, 7) : random.normal(14.5, 3.6);
  const within = hour >= 0 && hour < 24 ? hour : random.between(8, 22);
  return day * DAY_MS + Math.floor(within * HOUR_MS);
}

function anyTerminal(random: Random, { terminals }: Population, online: boolean): number {
  for (;;) {
    const index = random.below(terminals.length);
    if (terminals[index].online === online) return index;
  }
}

function choose(random: Random, indices: Int32Array): number {
  // Squaring prefers the first: everybody has a shop they go to most.
  return indices[Math.floor(random.uniform() ** 2 * indices.length)];
}

function cents(amount: number): number {
  return Math.max(1, Math.round(amount * 100)) / 100;
}

function toDataset(
  population: Population,
  seed: number,
  day: number,
  payments: Payment[],
  from: number,
  to: number,
): Dataset {
  let first = 0;
  while (first < payments.length && payments[first].time < from) first++;
  let end = payments.length;
  while (end > first && payments[end - 1].time >= to) end--;
  const rows = payments.slice(first, end);
  const who = (row: Payment): Customer => population.customers[row.customer];
  const distance = (row: Payment): number =>
    Math.round(distanceKm(who(row), population.terminals[row.terminal]) * 10) / 10;
  const numbers = (type: "number" | "boolean", of: (row: Payment) => number): AttributeColumn => ({
    type,
    values: Float64Array.from(rows, of),
  });
  const texts = (categories: string[], of: (row: Payment) => string): AttributeColumn => ({
    type: "text",
    codes: Int32Array.from(rows, (row) => categories.indexOf(of(row))),
    categories,
  });
  return {
    source: `simulated (seed ${seed})`,
    length: rows.length,
    transactionId: rows.map((_, i) => `s${seed}-${day}-${first + i}`),
    eventTime: Float64Array.from(rows, (row) => row.time),
    cardId: rows.map((row) => who(row).id),
    merchantId: rows.map((row) => population.terminals[row.terminal].id),
    amount: Float64Array.from(rows, (row) => row.amount),
    currency: rows.map((row) => who(row).currency),
    label: Uint8Array.from(rows, (row) => Number(row.fraud)),
    labelTime: null,
    historyRows: 0,
    hasCards: true,
    hasMerchants: true,
    attributes: new Map([
      ["channel", texts(CHANNELS, (row) => row.channel)],
      ["category", texts(CATEGORIES, (row) => population.terminals[row.terminal].category)],
      ["card_present", numbers("boolean", (row) => Number(row.channel !== "online"))],
      ["distance_km", numbers("number", (row) => (row.channel === "online" ? Number.NaN : distance(row)))],
      ["known_device", numbers("boolean", (row) => (row.channel === "online" ? Number(row.knownDevice) : Number.NaN))],
    ]),
    notes: [],
  };
}

/** Days of one simulation, which have the same attributes, end to end. */
function concatenate(days: Dataset[], source: string): Dataset {
  const floats = (of: (day: Dataset) => Float64Array): Float64Array => {
    const all = new Float64Array(length);
    let at = 0;
    for (const day of days) {
      all.set(of(day), at);
      at += day.length;
    }
    return all;
  };
  const length = days.reduce((sum, day) => sum + day.length, 0);
  const attributes = new Map<string, AttributeColumn>();
  for (const [name, column] of days.at(0)?.attributes ?? []) {
    const same = days.map((day) => day.attributes.get(name));
    if (column.type === "text") {
      attributes.set(name, {
        ...column,
        codes: Int32Array.from(same.flatMap((part) => (part?.type === "text" ? [...part.codes] : []))),
      });
    } else {
      attributes.set(name, {
        ...column,
        values: Float64Array.from(
          same.flatMap((part) => (part === undefined || part.type === "text" ? [] : [...part.values])),
        ),
      });
    }
  }
  return {
    source,
    length,
    transactionId: days.flatMap((day) => day.transactionId),
    eventTime: floats((day) => day.eventTime),
    cardId: days.flatMap((day) => day.cardId),
    merchantId: days.flatMap((day) => day.merchantId),
    amount: floats((day) => day.amount),
    currency: days.flatMap((day) => day.currency),
    label: Uint8Array.from(days.flatMap((day) => [...day.label])),
    labelTime: null,
    historyRows: 0,
    hasCards: true,
    hasMerchants: true,
    attributes,
    notes: [],
  };
}
