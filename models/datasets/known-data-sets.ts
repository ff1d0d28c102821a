import type { Role } from "./column-names.js";
import type { Length } from "./times/time-units.js";

/** A public data set, told by its header. */
export interface KnownDataSet {
  name: string;
  /** Names (as `plainName` makes them) that its header has. */
  has: readonly string[];
  /** What counts in its time column. */
  timeLength?: Length;
  /** Columns of roles that its names alone would not tell; several make up one. */
  roles?: Partial<Record<Role, readonly string[]>>;
}

/** What no cell of these data sets tells, but their authors do. */
const KNOWN: readonly KnownDataSet[] = [
  { name: "PaySim", has: ["step", "nameorig"], timeLength: "hours" },
  { name: "PaySim", has: ["step", "oldbalanceorg"], timeLength: "hours" },
  { name: "BankSim", has: ["step", "zipcodeori", "zipmerchant"], timeLength: "days" },
  { name: "ULB credit cards", has: ["time", "v1", "v2", "v3", "amount"], timeLength: "seconds" },
  {
    name: "IEEE-CIS",
    has: ["transactiondt", "transactionamt", "card1", "card2"],
    timeLength: "seconds",
    roles: { card_id: ["card1", "card2", "card3", "card5", "addr1"] },
  },
  { name: "IEEE-CIS", has: ["transactiondt"], timeLength: "seconds" },
  {
    name: "TabFormer",
    has: ["user", "card", "usechip", "merchantname"],
    roles: { card_id: ["user", "card"], merchant_id: ["merchantname"] },
  },
  {
    name: "Bank Account Fraud",
    has: ["fraudbool", "month", "intendedbalconamount"],
    timeLength: "months",
    roles: { event_time: ["month"], amount: ["intendedbalconamount"] },
  },
];

/** @param names of the header, as `plainName` makes them */
export function knownDataSet(names: readonly string[]): KnownDataSet | null {
  return KNOWN.find(({ has }) => has.every((name) => names.includes(name))) ?? null;
}
