import { RequestError } from "../../schemas/errors.js";

/** What a column of a file can stand for in a transaction. */
export const ROLES = ["transaction_id", "event_time", "card_id", "merchant_id", "amount", "currency", "label"] as const;
export type Role = (typeof ROLES)[number];

/** Columns that the user named: the column of each role; null: the file has none, whatever its names say. */
export type ColumnOverrides = Partial<Record<Role, string | null>>;

/** Which column of a file stands for what. */
export interface ColumnPlan {
  /** Index of each role's column. */
  roles: Partial<Record<Role, number>>;
  attributes: { index: number; name: string }[];
  notes: string[];
}

/**
 * Names by role, the best first, as `plain` makes them: the plain names, the Fraud Detection Handbook's, PaySim's and
 * ULB's (Kaggle `creditcard`), and those of two more public sets (IEEE-CIS, Sparkov).
 */
const ALIASES: Record<Role, readonly string[]> = {
  transaction_id: ["transactionid", "txid", "transnum"],
  event_time: [
    "eventtime",
    "txdatetime",
    "datetime",
    "timestamp",
    "transactiontime",
    "transdatetranstime",
    "transactiondt",
    "time",
    "step",
    "unixtime",
  ],
  card_id: ["cardid", "customerid", "nameorig", "ccnum", "cardnumber"],
  merchant_id: ["merchantid", "terminalid", "namedest", "merchant"],
  amount: ["amount", "txamount", "transactionamount", "transactionamt", "amt"],
  currency: ["currency", "currencycode"],
  label: ["label", "isfraud", "txfraud", "class", "fraud"],
};

/**
 * Names that tell of the label, such as PaySim's isFlaggedFraud and the Handbook's TX_FRAUD_SCENARIO; known only after
 * the fact.
 */
const LEAK = /fraud|chargeback|^label/;
/**
 * The Handbook's TX_TIME_SECONDS and TX_TIME_DAYS say again what TX_DATETIME says, and only grow: no model may look at
 * them.
 */
const DERIVED_TIME = /^txtime(seconds|days)$/;
/** A row number, as pandas writes it. */
const ROW_NUMBER = /^(unnamed:\d+|)$/;

/**
 * Reads `event_time=TX_DATETIME,label=TX_FRAUD`; an empty name says that the file has no such column.
 *
 * @throws RequestError `bad_columns`
 */
export function parseColumnOverrides(texts: readonly string[]): ColumnOverrides {
  const overrides: ColumnOverrides = {};
  for (const part of texts.flatMap((text) => text.split(","))) {
    const equals = part.indexOf("=");
    const role = ROLES.find((candidate) => candidate === part.slice(0, equals).trim());
    if (equals < 1 || role === undefined) {
      throw new RequestError(
        "bad_columns",
        `--columns ${JSON.stringify(part)}: it must be role=column, where role is one of ${ROLES.join(", ")}`,
      );
    }
    if (role in overrides) throw new RequestError("bad_columns", `--columns names ${role} twice`);
    overrides[role] = part.slice(equals + 1).trim() || null;
  }
  return overrides;
}

/**
 * Recognises the columns of a header, without regard to case, spaces, '-' and '_'.
 *
 * @param file for messages
 * @throws RequestError `bad_columns`, `csv_missing_column`, `csv_duplicate_column`
 */
export function planColumns(file: string, header: readonly string[], overrides: ColumnOverrides): ColumnPlan {
  refuseDuplicates(file, header);
  const names = header.map(plain);
  const roles: Partial<Record<Role, number>> = {};
  const taken = new Map<number, Role>();
  const notes: string[] = [];
  for (const role of ROLES) {
    const named = overrides[role];
    const index =
      named === undefined
        ? recognise(file, header, names, role)
        : named === null
          ? -1
          : find(file, header, named, role);
    if (index < 0) continue;
    const other = taken.get(index);
    if (other !== undefined)
      throw new RequestError(
        "bad_columns",
        `${file}: column ${JSON.stringify(header[index])} can't be both ${other} and ${role}`,
      );
    taken.set(index, role);
    roles[role] = index;
  }
  for (const role of ["label", "amount"] as const) {
    if (roles[role] !== undefined) continue;
    const hint = `name it with --columns ${role}=NAME; the columns are ${header.join(", ")}`;
    throw new RequestError("csv_missing_column", `${file} line 1: no column for ${role} was recognised: ${hint}`);
  }
  const attributes: ColumnPlan["attributes"] = [];
  header.forEach((name, index) => {
    if (taken.has(index)) return;
    const reason = whyNotAttribute(names[index]);
    if (reason === null) attributes.push({ index, name });
    else notes.push(`left out: column ${JSON.stringify(name)}, ${reason}`);
  });
  return { roles, attributes, notes };
}

function whyNotAttribute(name: string): string | null {
  if (ROW_NUMBER.test(name)) return "a row number";
  if (LEAK.test(name) || ALIASES.label.includes(name)) return "it would tell the label";
  if (DERIVED_TIME.test(name)) return "it repeats the time";
  const role = ROLES.find((candidate) => ALIASES[candidate].includes(name));
  return role === undefined ? null : `the ${role} is taken from elsewhere`;
}

function recognise(file: string, header: readonly string[], names: readonly string[], role: Role): number {
  for (const alias of ALIASES[role]) {
    const index = names.indexOf(alias);
    if (index < 0) continue;
    const second = names.indexOf(alias, index + 1);
    if (second < 0) return index;
    throw new RequestError(
      "csv_duplicate_column",
      `${file} line 1: columns ${JSON.stringify(header[index])} and ${JSON.stringify(header[second])} could ` +
        `both be the ${role}: choose with --columns ${role}=NAME`,
    );
  }
  return -1;
}

function find(file: string, header: readonly string[], name: string, role: Role): number {
  const exact = header.indexOf(name);
  const index = exact >= 0 ? exact : header.findIndex((candidate) => plain(candidate) === plain(name));
  if (index < 0)
    throw new RequestError(
      "csv_missing_column",
      `${file} line 1: no column ${JSON.stringify(name)} for ${role}; the columns are ${header.join(", ")}`,
    );
  return index;
}

function refuseDuplicates(file: string, header: readonly string[]): void {
  const first = new Map<string, number>();
  header.forEach((name, index) => {
    const before = first.get(name);
    if (before !== undefined)
      throw new RequestError(
        "csv_duplicate_column",
        `${file} line 1: columns ${before + 1} and ${index + 1} are both named ${JSON.stringify(name)}`,
      );
    first.set(name, index);
  });
}

function plain(name: string): string {
  return name.toLowerCase().replace(/[\s_-]/g, "");
}
