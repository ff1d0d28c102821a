import { RequestError } from "../../schemas/errors.js";
import { FURTHER_NAMES, NAMES, ROLES, plainName, type Role } from "./column-names.js";
import type { ColumnProfile } from "./column-profile.js";
import { knownDataSet, type KnownDataSet } from "./known-data-sets.js";
import { findTime } from "./times/find-time.js";
import type { TimeParts } from "./times/time-reading.js";

/**
 * Columns that the user named: the column of each role, or several joined by "+"; null: the file has none, whatever its
 * names say.
 */
export type ColumnOverrides = Partial<Record<Role, string | null>>;

/** Which columns of a file have which roles. */
export interface RolePlan {
  /** Indexes of each role's columns: several make up one id, or one time. */
  roles: Partial<Record<Role, number[]>>;
  /** Why each was chosen. */
  why: Partial<Record<Role, string>>;
  /** What the columns of the event time have of it. */
  timeParts: TimeParts;
  known: KnownDataSet | null;
  /** For people. */
  notes: string[];
}

/**
 * Reads `event_time=TX_DATETIME,label=TX_FRAUD`; an empty name says that the file has no such column, `first+last` that
 * two make up the role.
 *
 * @throws RequestError `bad_columns`
 */
export function parseColumnOverrides(texts: readonly string[]): ColumnOverrides {
  const overrides: ColumnOverrides = {};
  for (const part of texts.flatMap((text) => text.split(","))) {
    const equals = part.indexOf("=");
    const wanted = part.slice(0, Math.max(0, equals)).trim();
    const role = ROLES.find((candidate) => candidate === (SHORT[wanted] ?? wanted));
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

const SHORT: Readonly<Record<string, Role | undefined>> = {
  id: "transaction_id",
  time: "event_time",
  card: "card_id",
  merchant: "merchant_id",
};

/**
 * Recognises the columns of a file: those that the user names, those of public data sets, those of a role's names, and
 * a column whose cells are times.
 *
 * @param file for messages
 * @throws RequestError `bad_columns`, `csv_missing_column`, `csv_duplicate_column`
 */
export function planRoles(
  file: string,
  columns: readonly ColumnProfile[],
  overrides: ColumnOverrides,
  now: number,
): RolePlan {
  const header = columns.map(({ name }) => name);
  refuseDuplicates(file, header);
  const names = header.map(plainName);
  const known = knownDataSet(names);
  const plan: RolePlan = { roles: {}, why: {}, timeParts: { joined: [] }, known, notes: [] };
  if (known !== null) plan.notes.push(`the header is that of ${known.name}`);
  const taken = new Map<number, Role>();
  const take = (role: Role, indexes: number[], why: string): void => {
    for (const index of indexes) {
      const other = taken.get(index);
      if (other !== undefined && other !== role)
        throw new RequestError(
          "bad_columns",
          `${file}: column ${JSON.stringify(header[index])} can't be both ${other} and ${role}`,
        );
      taken.set(index, role);
    }
    plan.roles[role] = indexes;
    plan.why[role] = why;
  };
  // What the user says goes first: nothing else may take a column that has a role already.
  for (const role of ROLES) {
    const named = overrides[role];
    if (named !== undefined && named !== null) take(role, findAll(file, header, named, role), "as --columns says");
  }
  for (const role of ROLES) {
    if (overrides[role] !== undefined) continue;
    const given = known?.roles?.[role]?.map((name) => names.indexOf(name)).filter((index) => index >= 0) ?? [];
    if (given.length > 0) take(role, given, `as in ${known?.name ?? ""}`);
  }
  for (const role of ROLES) {
    if (overrides[role] !== undefined || plan.roles[role] !== undefined || role === "event_time") continue;
    const index = recognise(file, columns, names, role, taken);
    if (index >= 0) take(role, [index], "by its name");
  }
  const time = plan.roles.event_time;
  if (overrides.event_time !== null) {
    const found = findTime(columns, names, time ?? null, new Set(taken.keys()), now);
    plan.notes.push(...found.notes);
    plan.timeParts = found.parts;
    if (time === undefined && found.indexes.length > 0) take("event_time", found.indexes, found.why);
  }
  refuseTaken(file, header, names, plan.roles, taken);
  refuseMissing(file, header, plan.roles);
  return plan;
}

/** A column that is needed for one role was given another one. */
function refuseTaken(
  file: string,
  header: readonly string[],
  names: readonly string[],
  roles: RolePlan["roles"],
  taken: ReadonlyMap<number, Role>,
): void {
  for (const role of ["label", "amount"] as const) {
    const index = roles[role] === undefined ? names.findIndex((name) => NAMES[role].includes(name)) : -1;
    if (index < 0) continue;
    const other = taken.get(index) ?? "";
    throw new RequestError(
      "bad_columns",
      `${file}: column ${JSON.stringify(header[index])} can't be both ${other} and ${role}`,
    );
  }
}

function refuseMissing(file: string, header: readonly string[], roles: RolePlan["roles"]): void {
  const missing = (["label", "amount"] as const).filter((role) => roles[role] === undefined);
  if (missing.length === 0) return;
  const list = header.join(", ");
  throw new RequestError(
    "csv_missing_column",
    `${file} line 1: no column for ${missing.join(" and ")} was recognised: name it with --columns ` +
      `${missing.map((role) => `${role}=NAME`).join(",")}; the columns are ` +
      (list.length > 1_000 ? `${list.slice(0, 1_000)}...` : list),
  );
}

/** Whether a column's cells can be what the role's name promises. */
function suits(role: Role, { numbers, isEmpty }: ColumnProfile): boolean {
  if (isEmpty) return false;
  return role !== "amount" || numbers.numbers > numbers.otherCount;
}

function recognise(
  file: string,
  columns: readonly ColumnProfile[],
  names: readonly string[],
  role: Role,
  taken: ReadonlyMap<number, Role>,
): number {
  // A column of the best names is taken whatever it holds: what is wrong with it is said with the line.
  for (const [aliases, must] of [
    [NAMES[role], false],
    [FURTHER_NAMES[role], true],
  ] as const)
    for (const alias of aliases) {
      const index = names.findIndex(
        (name, at) => name === alias && !taken.has(at) && (!must || suits(role, columns[at])),
      );
      if (index < 0) continue;
      const second = names.findIndex((name, at) => at > index && name === alias && !taken.has(at));
      if (second < 0) return index;
      throw new RequestError(
        "csv_duplicate_column",
        `${file} line 1: columns ${JSON.stringify(columns[index].name)} and ${JSON.stringify(columns[second].name)} ` +
          `could both be the ${role}: choose with --columns ${role}=NAME`,
      );
    }
  return -1;
}

function findAll(file: string, header: readonly string[], named: string, role: Role): number[] {
  const whole = indexOfName(header, named);
  if (whole >= 0) return [whole];
  return named.split("+").map((name) => findColumn(file, header, name.trim(), role));
}

/** @throws RequestError `csv_missing_column` */
export function findColumn(file: string, header: readonly string[], name: string, what: string): number {
  const index = indexOfName(header, name);
  if (index < 0)
    throw new RequestError(
      "csv_missing_column",
      `${file} line 1: no column ${JSON.stringify(name)} for ${what}; the columns are ${header.join(", ")}`,
    );
  return index;
}

function indexOfName(header: readonly string[], name: string): number {
  const exact = header.indexOf(name);
  if (exact >= 0 || plainName(name) === "") return exact;
  return header.findIndex((candidate) => plainName(candidate) === plainName(name));
}

function refuseDuplicates(file: string, header: readonly string[]): void {
  const first = new Map<string, number>();
  header.forEach((name, index) => {
    // Spreadsheets leave columns without a name behind the last one.
    if (name === "") return;
    const before = first.get(name);
    if (before !== undefined)
      throw new RequestError(
        "csv_duplicate_column",
        `${file} line 1: columns ${before + 1} and ${index + 1} are both named ${JSON.stringify(name)}`,
      );
    first.set(name, index);
  });
}
