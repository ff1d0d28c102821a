import { Random } from "./random.js";

/** Side of the square that everybody lives in, kilometres. */
const SIDE_KM = 100;
/** A customer's usual terminals are the nearest of this many that were drawn at random. */
const CANDIDATES = 60;
const USUAL_SHOPS = 8;
const USUAL_ONLINE = 4;
const ONLINE_SHARE_OF_TERMINALS = 0.2;

/** Kinds of merchants: how common they are, and how their amounts compare with a customer's mean. */
const SHOP_CATEGORIES = [
  { category: "grocery", share: 0.42, factor: 0.7 },
  { category: "restaurant", share: 0.24, factor: 0.8 },
  { category: "fuel", share: 0.14, factor: 1.3 },
  { category: "fashion", share: 0.14, factor: 1.6 },
  { category: "electronics", share: 0.06, factor: 3.2 },
];
const ONLINE_CATEGORIES = [
  { category: "digital", share: 0.4, factor: 0.4 },
  { category: "fashion", share: 0.3, factor: 1.5 },
  { category: "electronics", share: 0.2, factor: 2.8 },
  { category: "travel", share: 0.1, factor: 5 },
];
/** Every value of the `category` attribute. */
export const CATEGORIES = ["grocery", "restaurant", "fuel", "fashion", "electronics", "digital", "travel"];

/** A merchant's point of sale, in a street or online. */
export interface Terminal {
  id: string;
  x: number;
  y: number;
  online: boolean;
  category: string;
  /** Amounts here, as a multiple of the customer's mean. */
  factor: number;
}

/** A card and its holder's habits. */
export interface Customer {
  id: string;
  x: number;
  y: number;
  currency: string;
  /** Of an amount, in major units. */
  mean: number;
  deviation: number;
  /** Payments on a working day. */
  perDay: number;
  /** What a day at the weekend has, as a multiple of a working day. */
  weekendFactor: number;
  /** Share of payments between midnight and seven. */
  night: number;
  /** Share of payments online. */
  online: number;
  /** Indices of the terminals that the customer goes to. */
  shops: Int32Array;
  onlineShops: Int32Array;
}

/** Those who pay and where they pay. */
export interface Population {
  customers: Customer[];
  terminals: Terminal[];
}

/** Which part of the simulation a random sequence belongs to: the first part of its key after the seed. */
export const STREAM = { terminal: 1, customer: 2, payments: 3, compromise: 4, theft: 5, visits: 6 } as const;

/**
 * Customers of a seed by index, who go to the terminals of a population: those of `createPopulation`, and any number
 * beyond.
 */
export function customersAt(seed: number, terminals: Terminal[]): (index: number) => Customer {
  const shops = terminals.flatMap((terminal, i) => (terminal.online ? [] : [i]));
  const online = terminals.flatMap((terminal, i) => (terminal.online ? [i] : []));
  return (index) => createCustomer(new Random(seed, STREAM.customer, index), index, terminals, shops, online);
}

/**
 * Customers and terminals of a seed. The first `n` customers are the same however many follow, as long as the terminals
 * are as many.
 */
export function createPopulation(seed: number, customers: number, terminals: number): Population {
  // The first two make sure that there is one of each sort.
  const all = Array.from({ length: terminals }, (_, i) => createTerminal(new Random(seed, STREAM.terminal, i), i));
  const customerAt = customersAt(seed, all);
  return { terminals: all, customers: Array.from({ length: customers }, (_, i) => customerAt(i)) };
}

function createTerminal(random: Random, index: number): Terminal {
  const online = index < 2 ? index === 1 : random.chance(ONLINE_SHARE_OF_TERMINALS);
  const { category, factor } = pick(random, online ? ONLINE_CATEGORIES : SHOP_CATEGORIES);
  return {
    id: `m${String(index).padStart(5, "0")}`,
    x: random.between(0, SIDE_KM),
    y: random.between(0, SIDE_KM),
    online,
    category,
    factor,
  };
}

function createCustomer(
  random: Random,
  index: number,
  terminals: Terminal[],
  shops: number[],
  online: number[],
): Customer {
  const x = random.between(0, SIDE_KM);
  const y = random.between(0, SIDE_KM);
  const mean = 28 * Math.exp(random.normal(0, 0.55));
  const candidates = Array.from({ length: CANDIDATES }, () => shops[random.below(shops.length)]);
  const distance = (i: number): number => distanceKm({ x, y }, terminals[i]);
  candidates.sort((a, b) => distance(a) - distance(b) || a - b);
  return {
    id: `c${String(index).padStart(6, "0")}`,
    x,
    y,
    currency: random.chance(0.85) ? "EUR" : random.chance(0.6) ? "GBP" : "USD",
    mean,
    deviation: mean * random.between(0.35, 0.7),
    // Many pay now and then, few pay often.
    perDay: 0.3 + random.exponential(1.7),
    weekendFactor: random.between(0.6, 1.6),
    night: random.chance(0.1) ? random.between(0.08, 0.3) : random.between(0, 0.03),
    online: random.uniform() ** 2 * 0.7,
    shops: Int32Array.from(candidates.slice(0, USUAL_SHOPS)),
    onlineShops: Int32Array.from({ length: USUAL_ONLINE }, () => online[random.below(online.length)]),
  };
}

/** As the crow flies. */
export function distanceKm(a: { x: number; y: number }, b: { x: number; y: number }): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

function pick<T extends { share: number }>(random: Random, kinds: readonly T[]): T {
  let left = random.uniform();
  for (const kind of kinds) {
    left -= kind.share;
    if (left < 0) return kind;
  }
  return kinds[0];
}
