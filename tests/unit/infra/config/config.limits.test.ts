import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readConfig } from "../../../../infra/config/config.js";
import { SETTINGS } from "../../../../infra/config/unknown-settings.js";
import { packageRoot } from "../../../../infra/package-root.js";
import { UsageError } from "../../../../schemas/errors.js";

/** Settings that are read only beside these. */
const BESIDE = { KAFKA_BROKERS: "k:9092", CLICKHOUSE_URL: "http://ch:8123" };
/** The longest that a timer of Node waits: one that is set to more fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** What no number of any setting is, in units, bases and forms that JavaScript or people know. */
const NO_NUMBERS = [
  "-1",
  "1.5",
  "1e3",
  "0x10",
  "NaN",
  "Infinity",
  "-Infinity",
  "+5",
  "5_000",
  "5s",
  "5 parsecs",
  "PT5X",
  "P1Y",
  "٥",
  "5\n5",
  "null",
];
const WRAPPING = [2 ** 31, 2 ** 32, 2 ** 53, 2 ** 64].map((number) => BigInt(number).toString());

/** How a value is refused, in one line; null: it is taken. */
function refusal(name: string, value: string): string | null {
  try {
    readConfig({ ...BESIDE, [name]: value });
    return null;
  } catch (error) {
    if (!(error instanceof UsageError) || error.code !== "bad_setting") throw error;
    expect(error.message).not.toMatch(/[\r\n]/);
    return error.message;
  }
}

interface Limits {
  name: string;
  kind: "number" | "duration";
  least: bigint;
  most: bigint;
  said: string;
}

/** Every setting that is a number, a size or a duration, with its limits: as it states them itself when it refuses. */
function limitedSettings(): Limits[] {
  return SETTINGS.flatMap((name): Limits[] => {
    const said = /; it must be (.*)$/.exec(refusal(name, "?") ?? "")?.[1] ?? "";
    const [, least, most] = /^a whole number (?:of days )?from (\d+)(?: \(forever\))? to (\d+)/.exec(said) ?? [];
    if (most !== undefined) return [{ name, kind: "number", least: BigInt(least), most: BigInt(most), said }];
    const [, from, to] = /^an ISO 8601 duration from PT(\d+)S to PT(\d+)H/.exec(said) ?? [];
    return to === undefined ? [] : [{ name, kind: "duration", least: BigInt(from), most: BigInt(to) * 3_600n, said }];
  });
}

const ALL = limitedSettings();
const written = ({ kind }: Limits, value: bigint): string => (kind === "number" ? String(value) : `PT${value}S`);

/** The numbers of a configuration, by their paths. */
function numbersOf(value: unknown, path = "", found = new Map<string, number>()): Map<string, number> {
  if (typeof value === "number") found.set(path, value);
  else if (typeof value === "object" && value !== null)
    for (const [name, inner] of Object.entries(value)) numbersOf(inner, `${path}.${name}`, found);
  return found;
}

test("the tests cover all settings that the code reads as numbers and durations", () => {
  const folder = join(packageRoot(), "infra/config");
  const code = readdirSync(folder)
    .filter((file) => file.endsWith(".ts"))
    .map((file) => readFileSync(join(folder, file), "utf8"))
    .join("\n");
  const read = [...code.matchAll(/\b(?:integer|duration|count)\(env, "(\w+)"/g)].map(([, name]) => name);
  expect(read.length).toBeGreaterThan(15);
  expect(ALL.map(({ name }) => name).sort()).toEqual([...new Set([...read, "RETENTION_DAYS"])].sort());
});

describe.each(ALL)("$name", (limits) => {
  const { name, kind, least, most, said } = limits;

  test("refuses values that are beyond its limits or not numbers, and states the limits", () => {
    const beyond = [written(limits, most + 1n), written(limits, least - 1n)];
    for (const value of [...beyond, ...NO_NUMBERS, ...WRAPPING, ...WRAPPING.map((number) => `PT${number}S`)]) {
      if (kind === "number" && /^\d+$/.test(value) && BigInt(value) >= least && BigInt(value) <= most) continue;
      const line = refusal(name, value);
      expect(line, value).toContain(said.split(",")[0]);
      expect(line?.startsWith(`${name} is `), String(line)).toBe(true);
    }
    if (kind === "duration")
      for (const value of ["PT0S", "PT0.5S", "5", "0", "PT", "P1D", " PT5M "])
        expect(refusal(name, value), value).toContain(said);
    // In a list blanks around a comma are nothing.
    else if (name !== "RETENTION_DAYS") expect(refusal(name, ` ${most} `)).toContain(said);
    expect(refusal(name, "")).toBeNull();
  });

  test("accepts its minimum and maximum as they are, and nothing computed from them wraps around", () => {
    const usual = numbersOf(readConfig(BESIDE));
    // A number between, so that neither limit is the usual one by chance.
    const other = numbersOf(readConfig({ ...BESIDE, [name]: written(limits, (least + most) / 2n) }));
    const [least_, most_] = [least, most].map((value) =>
      numbersOf(readConfig({ ...BESIDE, [name]: written(limits, value) })),
    );
    const paths = [...new Set([...most_.keys(), ...usual.keys()])].filter((path) =>
      [least_, other, most_].some((numbers) => numbers.get(path) !== usual.get(path)),
    );
    expect(paths).not.toEqual([]);
    for (const path of paths) {
      const greatest = most_.get(path) ?? NaN;
      const unit = greatest / Number(most);
      expect([1, 1_000, 1024 ** 2], path).toContain(unit);
      expect(Number.isSafeInteger(greatest), path).toBe(true);
      expect(BigInt(greatest), path).toBe(most * BigInt(unit));
      // Port 0 is none.
      expect(least_.get(path) ?? 0, path).toBe(Number(least) * unit);
      if (path.endsWith("Ms")) expect(greatest, path).toBeLessThanOrEqual(LONGEST_TIMER_MS);
      if (path.endsWith("Seconds")) expect(greatest + Date.now() / 1_000, path).toBeLessThan(2 ** 31);
    }
  });
});

test("at the greatest limits, the ends of all timers and times fit their counters", () => {
  const greatest = Object.fromEntries(ALL.map((limits) => [limits.name, written(limits, limits.most)]));
  const { models, history, retention, labelMaturityDays } = readConfig({ ...BESIDE, ...greatest });
  // A transaction of Kafka has an int32 of milliseconds, and brokers allow 15 minutes: 60 s, and five hung runs
  // (pipelines/scoring/main.ts).
  expect(60_000 + 5 * models.timeoutMs).toBeLessThanOrEqual(900_000);
  // A batch waits for merchants within that transaction, and HTTP callers a second longer than it.
  expect(history.merchantWaitMs).toBeLessThan(60_000);
  // ClickHouse's DateTime ends in 2106.
  for (const days of Object.values(retention)) expect(Date.now() / 1_000 + days * 86_400).toBeLessThan(2 ** 32);
  expect(Date.now() - labelMaturityDays * 86_400_000).toBeGreaterThan(0);
});

test("an admin's name and password are no longer than sign-in accepts", () => {
  expect(refusal("ADMIN_PASSWORD", "x".repeat(11))).toBe("ADMIN_PASSWORD has 11 characters; it must have at least 12");
  expect(refusal("ADMIN_PASSWORD", "x".repeat(1_001))).toBe(
    "ADMIN_PASSWORD has 1001 characters; nobody can sign in with more than 1000",
  );
  expect(refusal("ADMIN_USERNAME", "x".repeat(201))).toBe(
    "ADMIN_USERNAME has 201 characters; nobody can sign in with more than 200",
  );
  const { auth } = readConfig({ ADMIN_PASSWORD: "x".repeat(1_000), ADMIN_USERNAME: "x".repeat(200) });
  expect([auth.adminPassword?.length, auth.adminUsername?.length]).toEqual([1_000, 200]);
});
