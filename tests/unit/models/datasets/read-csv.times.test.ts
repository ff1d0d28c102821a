import { describe, expect, test } from "vitest";
import { readCsv, type CsvOptions } from "../../../../models/datasets/read-csv.js";
import { fileWith } from "./csv-files.js";
import { csvOf, iso, payments, type Payment } from "./payments-csv.js";

const ROWS = payments(300);
const DAY = 86_400_000;

/** A file whose times are written so. */
function timed(write: (time: number, payment: Payment) => string | number, name = "event_time"): string {
  return csvOf(`id,${name},card_id,merchant_id,amount,is_fraud`, ROWS, (payment) => [
    `t${payment.row}`,
    `"${write(payment.time, payment)}"`,
    payment.card,
    payment.merchant,
    payment.amount,
    Number(payment.fraud),
  ]);
}

async function expectTimes(content: string, precision: number, options: CsvOptions = {}): Promise<void> {
  const dataset = await readCsv(fileWith(content), options);
  for (const [row, { time }] of ROWS.entries())
    expect(dataset.eventTime[row]).toBe(Math.floor(time / precision) * precision);
}

const code = async (content: string, options: CsvOptions = {}): Promise<[string, string]> =>
  readCsv(fileWith(content), options).then(
    () => ["", ""],
    (error: Error & { code: string }) => [error.code, error.message],
  );

const two = (number: number): string => String(number).padStart(2, "0");
const parts = (time: number) => {
  const date = new Date(time);
  return {
    y: date.getUTCFullYear(),
    m: date.getUTCMonth() + 1,
    d: date.getUTCDate(),
    h: date.getUTCHours(),
    min: date.getUTCMinutes(),
    s: date.getUTCSeconds(),
    name: ["Jan", "Feb", "Mar", "Apr"][date.getUTCMonth()],
  };
};

describe("notations, found by the cells", () => {
  test.each<[string, (time: number) => string | number, number]>([
    ["yyyymmdd", (t) => iso(t).slice(0, 10).replaceAll("-", ""), DAY],
    ["yyyymmddhhmmss", (t) => iso(t).replace(/\D/g, ""), 1000],
    ["yyyymmddhhmm", (t) => iso(t).replace(/\D/g, "").slice(0, 12), 60_000],
    ["yyyymmddThhmmssZ", (t) => `${iso(t).replace(/[-:]/g, "").replace(" ", "T")}Z`, 1000],
    ["yyyy/mm/dd", (t) => iso(t).replaceAll("-", "/"), 1000],
    ["d/m/y, by days over 12", (t) => `${parts(t).d}/${parts(t).m}/${parts(t).y} ${iso(t).slice(11)}`, 1000],
    ["m/d/y, by days over 12", (t) => `${parts(t).m}/${parts(t).d}/${parts(t).y} ${iso(t).slice(11, 16)}`, 60_000],
    ["m/d/yy", (t) => `${parts(t).m}/${parts(t).d}/24`, DAY],
    ["d.m.y", (t) => `${two(parts(t).d)}.${two(parts(t).m)}.${parts(t).y}`, DAY],
    ["d-Mon-yy", (t) => `${two(parts(t).d)}-${parts(t).name}-24 ${iso(t).slice(11)}`, 1000],
    ["Mon d, yyyy", (t) => `${parts(t).name} ${parts(t).d}, ${parts(t).y} ${iso(t).slice(11)}`, 1000],
    [
      "12-hour clocks",
      (t) => {
        const { y, m, d, h, min, s } = parts(t);
        return `${m}/${d}/${y} ${h % 12 || 12}:${two(min)}:${two(s)} ${h < 12 ? "AM" : "PM"}`;
      },
      1000,
    ],
    ["zones", (t) => `${iso(t + 7_200_000).replace(" ", "T")}+02:00`, 1000],
    ["zones by name", (t) => `${iso(t - 18_000_000)} EST`, 1000],
    ["mail's", (t) => new Date(t).toUTCString(), 1000],
    ["asctime's", (t) => `Fri ${parts(t).name} ${two(parts(t).d)} ${iso(t).slice(11)} UTC ${parts(t).y}`, 1000],
    ["nanoseconds of a second", (t) => `${iso(t)}.${String(t % 1000).padStart(3, "0")}456789`, 1],
    ["epoch seconds", (t) => Math.floor(t / 1000), 1000],
    ["epoch seconds with a fraction", (t) => t / 1000, 1],
    ["epoch milliseconds", (t) => t, 1],
    ["epoch microseconds", (t) => `${t}123`, 1],
    ["epoch nanoseconds", (t) => `${t}123456`, 1],
    ["epoch minutes", (t) => Math.floor(t / 60_000), 60_000],
    ["epoch hours", (t) => Math.floor(t / 3_600_000), 3_600_000],
    ["epoch days", (t) => Math.floor(t / DAY), DAY],
    ["a spreadsheet's days", (t) => Math.floor(t / DAY) + 25_569, DAY],
  ])("%s", async (_, write, precision) => {
    await expectTimes(timed(write), precision);
  });
});

describe("what can be read in two ways is refused, with the option that decides", () => {
  const early = (write: (day: number) => string): string =>
    csvOf("event_time,card_id,amount,is_fraud", ROWS, ({ row, card, amount, fraud }) => [
      write(1 + (row % 12)),
      card,
      amount,
      Number(fraud),
    ]);

  test("days and months up to 12", async () => {
    const file = early((day) => `3/${day}/2024 10:00`);
    const [why, message] = await code(file);
    expect(why).toBe("csv_ambiguous");
    expect(message).toContain("--day-first, or --no-day-first where the month comes first");
    const days = await readCsv(fileWith(file), { dayFirst: true });
    expect(days.eventTime[days.length - 1]).toBe(Date.UTC(2024, 11, 3, 10));
    const months = await readCsv(fileWith(file), { dayFirst: false });
    expect(months.eventTime[months.length - 1]).toBe(Date.UTC(2024, 2, 12, 10));
  });

  test("dates in both orders", async () => {
    const [why, message] = await code(early((day) => (day < 7 ? "13/2/2024" : "2/13/2024")));
    expect([why, message]).toEqual([
      "csv_ambiguous",
      expect.stringMatching(/line 2 \(13\/2\/2024\) has the day first, line 8/),
    ]);
  });

  test.each([
    ["seconds", 1000],
    ["minutes", 60_000],
    ["hours", 3_600_000],
    ["days", DAY],
  ])("%s since the file's start", async (unit, length) => {
    const from = Date.UTC(2024, 2, 1);
    const file = timed((time) => Math.floor((time - from) / length), "time");
    const [why, message] = await code(file);
    expect([why, message]).toEqual([
      "csv_ambiguous",
      expect.stringMatching(/--time-format seconds \(or minutes, hours, days/),
    ]);
    const { eventTime, notes } = await readCsv(fileWith(file), { timeFormat: unit });
    for (const [row, { time }] of ROWS.entries())
      expect(eventTime[row] - Date.UTC(2013, 8, 1)).toBe(Math.floor((time - from) / length) * length);
    expect(notes).toContain(`event_time: column "time", relative ${unit} from 2013-09-01`);
  });

  test("a unit in the column's name is one", async () => {
    const { notes } = await readCsv(fileWith(timed((_, { row }) => row * 7, "elapsed_minutes")), {
      columns: { event_time: "elapsed_minutes" },
    });
    expect(notes).toContain('event_time: column "elapsed_minutes", relative minutes from 2013-09-01');
  });
});

describe("--time-format", () => {
  test.each<[string, (time: number) => string | number, number]>([
    ["%d/%m/%Y %H:%M", (t) => `${two(parts(t).d)}/${two(parts(t).m)}/${parts(t).y} ${iso(t).slice(11, 16)}`, 60_000],
    ["dd.MM.yyyy HH:mm:ss", (t) => `${two(parts(t).d)}.${two(parts(t).m)}.${parts(t).y} ${iso(t).slice(11)}`, 1000],
    [
      "%y%m%d %I%p",
      (t) => `24${two(parts(t).m)}${two(parts(t).d)} ${parts(t).h % 12 || 12}${parts(t).h < 12 ? "am" : "pm"}`,
      3_600_000,
    ],
    ["epoch-s", (t) => Math.floor(t / 1000), 1000],
    ["epoch-days", (t) => Math.floor(t / DAY), DAY],
  ])("%s", async (format, write, precision) => {
    await expectTimes(timed(write), precision, { timeFormat: format });
  });

  test("what is none is refused, and a cell that doesn't follow it", async () => {
    for (const format of ["fortnights", "%Q", "%d/%d"])
      expect((await code(timed(iso), { timeFormat: format }))[0]).toBe("bad_time_format");
    const [why, message] = await code(timed(iso), { timeFormat: "%d/%m/%Y" });
    expect([why, message]).toEqual([
      "csv_bad_value",
      expect.stringMatching(/line 2, .* is not a time like %d\/%m\/%Y$/),
    ]);
  });
});

describe("the column", () => {
  test.each(["created_at", "when", "Buchungszeit", "occurred", "x7"])("%s is found by its cells", async (name) => {
    await expectTimes(timed(iso, name), 1000);
    const { notes } = await readCsv(fileWith(timed(iso, name)));
    expect(notes).toContain(`event_time: column "${name}", dates, UTC where they name no zone`);
  });

  test("a birthday is none, and of several the transaction's is taken", async () => {
    const file = csvOf(
      "birth_date,signup_date,purchase,settled_at,amount,label",
      ROWS,
      ({ time, row, amount, fraud }) => [
        `2001-02-${two(1 + (row % 28))}`,
        iso(time - 400 * DAY),
        iso(time),
        iso(time + DAY),
        amount,
        Number(fraud),
      ],
    );
    const { eventTime, attributes, notes } = await readCsv(fileWith(file));
    expect(eventTime[0]).toBe(Math.floor(ROWS[0].time / 1000) * 1000);
    expect([...attributes.keys()]).toEqual([]);
    expect(notes.join("\n")).toMatch(/"signup_date".* hold times, too: choose with --columns event_time=NAME/);
  });

  test("a date in parts, a date and a time of day, a date and an hour", async () => {
    const file = (header: string, cells: (time: number) => (string | number)[]): string =>
      csvOf(`${header},card_id,amount,label`, ROWS, ({ time, card, amount, fraud }) => [
        ...cells(time),
        card,
        amount,
        Number(fraud),
      ]);
    const clock = (time: number): string => iso(time).slice(11);
    await expectTimes(
      file("Year,Month,Day,Time", (t) => [parts(t).y, parts(t).m, parts(t).d, clock(t).slice(0, 5)]),
      60_000,
    );
    await expectTimes(
      file("year,month,day,hour,minute,second", (t) => [
        parts(t).y,
        parts(t).m,
        parts(t).d,
        parts(t).h,
        parts(t).min,
        parts(t).s,
      ]),
      1000,
    );
    await expectTimes(
      file("year,month,day", (t) => [parts(t).y, parts(t).name, parts(t).d]),
      DAY,
    );
    await expectTimes(
      file("date,time", (t) => [iso(t).slice(0, 10), clock(t)]),
      1000,
    );
    await expectTimes(
      file("date,hour", (t) => [iso(t).slice(0, 10), parts(t).h]),
      3_600_000,
    );
    await expectTimes(
      file("d1,t1", (t) => [`${parts(t).d}.${parts(t).m}.${parts(t).y}`, clock(t)]),
      1000,
    );
    await expectTimes(
      file("jour,heure", (t) => [iso(t).slice(0, 10).replaceAll("-", ""), Number(clock(t).replaceAll(":", ""))]),
      1000,
      { columns: { event_time: "jour+heure" } },
    );
  });
});

test("times to come, and before 2000, are refused as the stream refuses them", async () => {
  const year = new Date().getUTCFullYear() + 2;
  const [why, message] = await code(timed((t) => iso(t).replace("2024", String(year))));
  expect([why, message]).toEqual([
    "csv_bad_value",
    expect.stringMatching(/line 2, .*in the future, which the stream refuses/),
  ]);
  expect((await code(timed((t) => Math.floor(t / 1000) + 3e8)))[1]).toMatch(/in the future/);
  expect((await code(timed((t) => iso(t).replace("2024", "1924"))))[1]).toMatch(/is not a time from 2000 on/);
});
