import { numbers } from "./csv-files.js";

/** One payment of a made-up file. */
export interface Payment {
  row: number;
  /** Epoch milliseconds, ascending. */
  time: number;
  card: string;
  merchant: string;
  amount: number;
  fraud: boolean;
}

/** Payments of thirty days from 1 March 2024 on; dear ones are frauds more often. */
export function payments(rows: number, seed = 3): Payment[] {
  const random = numbers(seed);
  const step = (30 * 86_400_000) / rows;
  return Array.from({ length: rows }, (_, row) => {
    const fraud = random() < 0.08;
    return {
      row,
      time: Date.UTC(2024, 2, 1) + Math.floor((row + random()) * step),
      card: `c${Math.floor(random() * 60)}`,
      merchant: `m${Math.floor(random() * 25)}`,
      amount: Math.round((fraud ? 80 : 20) * (0.2 + random()) * 100) / 100,
      fraud,
    };
  });
}

/** A file of payments, a line each, with the cells that `cells` makes of them. */
export function csvOf(
  header: string,
  rows: readonly Payment[],
  cells: (payment: Payment) => (string | number)[],
  delimiter = ",",
): string {
  return `${[header, ...rows.map((payment) => cells(payment).join(delimiter))].join("\n")}\n`;
}

export function iso(time: number): string {
  return new Date(time).toISOString().slice(0, 19).replace("T", " ");
}
