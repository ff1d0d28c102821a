import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Rows } from "../../../../../pipelines/local/replay/label-schedule.js";
import {
  continueOrBegin,
  presentRows,
  simulatedRows,
  trainingRange,
  unlabelledRows,
} from "../../../../../pipelines/local/start/simulated-rows.js";
import { readStartState, writeStartState } from "../../../../../pipelines/local/start/start-state.js";

const DAY_MS = 86_400_000;
const clock = Date.UTC(2026, 5, 15, 13, 20);
const state = continueOrBegin(null, { seed: 5, customers: 40 }, clock);
const never = new AbortController().signal;

async function collect(rows: AsyncIterable<Rows>): Promise<{ id: string; time: number }[]> {
  const all: { id: string; time: number }[] = [];
  for await (const { dataset, start, end } of rows) {
    for (let row = start; row < end; row++) all.push({ id: dataset.transactionId[row], time: dataset.eventTime[row] });
  }
  return all;
}

describe("simulatedRows", () => {
  it("begins nine weeks back, six of which are trained on, and never passes the clock", async () => {
    expect(clock - state.began).toBeGreaterThanOrEqual(63 * DAY_MS);
    expect(clock - state.began).toBeLessThan(64 * DAY_MS);
    expect([state.until, trainingRange(state).to]).toEqual([state.began, state.began + 42 * DAY_MS]);
    const rows = await collect(
      simulatedRows({
        state,
        limit: null,
        wait: false,
        reserve: () => Promise.resolve(),
        signal: never,
        now: () => clock,
      }),
    );
    expect(rows[0].time).toBeGreaterThanOrEqual(state.until);
    expect(rows.at(-1)?.time).toBeLessThanOrEqual(clock);
    expect(clock - (rows.at(-1)?.time ?? 0)).toBeLessThan(DAY_MS / 4);
  });

  it("goes on with new ids where an earlier run ended, without a gap", async () => {
    const options = { limit: null, wait: false, signal: never, now: () => clock };
    const whole = await collect(simulatedRows({ ...options, state, reserve: () => Promise.resolve() }));
    const pieces: { id: string; time: number }[] = [];
    let now = state;
    for (const limit of [1, 100, 37, 900]) {
      pieces.push(
        ...(await collect(
          simulatedRows({
            ...options,
            state: now,
            limit,
            reserve: (until) => Promise.resolve(void (now = { ...now, until })),
          }),
        )),
      );
    }
    expect(pieces).toEqual(whole.slice(0, pieces.length));
    expect(pieces.length).toBeGreaterThanOrEqual(1_038);
  });

  it("reserves what it gives out before it does", async () => {
    let reserved = 0;
    for await (const { dataset, end } of simulatedRows({
      state,
      limit: 500,
      wait: false,
      reserve: (until) => Promise.resolve(void (reserved = until)),
      signal: never,
      now: () => clock,
    })) {
      expect(dataset.eventTime[end - 1]).toBeLessThan(reserved);
    }
    expect(reserved).toBeGreaterThan(state.until);
  });

  it("waits for the clock when it has caught up, until it is ended", async () => {
    const stop = new AbortController();
    const soon = { ...state, until: clock - 600_000 };
    let now = clock;
    const given: number[] = [];
    for await (const { dataset, start, end } of simulatedRows({
      state: soon,
      limit: null,
      wait: true,
      reserve: () => Promise.resolve(),
      signal: stop.signal,
      now: () => (now += 60_000),
    })) {
      for (let row = start; row < end; row++) {
        expect(dataset.eventTime[row]).toBeLessThanOrEqual(now);
        given.push(dataset.eventTime[row]);
      }
      if (given.some((time) => time > clock)) stop.abort();
    }
    expect(given.length).toBeGreaterThan(0);
  });

  it(
    "goes on at the present: visitors' payments, as many as are taken, and those of the town whose time has " +
      "come, in order",
    async () => {
      let now = clock;
      let reserved = 0;
      const rows = await collect(
        presentRows({
          state: { ...state, until: clock - 600_000 },
          limit: 3_000,
          reserve: (until) => Promise.resolve(void (reserved = until)),
          signal: never,
          now: () => (now += 330),
        }),
      );
      expect(rows).toHaveLength(3_000);
      expect(new Set(rows.map(({ id }) => id)).size).toBe(3_000);
      const visitors = rows.filter(({ id }) => id.startsWith("v5-"));
      const own = rows.filter(({ id }) => id.startsWith("s5-"));
      expect(visitors.length + own.length).toBe(3_000);
      expect(visitors.every(({ time }) => time >= clock - 100 && time <= now)).toBe(true);
      for (const { time } of own) expect(time).toBeLessThan(reserved);
      expect(visitors.map(({ time }) => time)).toEqual(visitors.map(({ time }) => time).sort((a, b) => a - b));
      const again = await collect(
        presentRows({
          state,
          limit: 5,
          reserve: () => Promise.resolve(),
          signal: never,
          now: () => clock + 86_400_000,
        }),
      );
      expect(again.some(({ id }) => rows.some((row) => row.id === id))).toBe(false);
    },
  );

  it("knows whose labels a run that was killed has left", () => {
    const killed = { ...state, until: state.until + 3 * DAY_MS };
    const rows = [...unlabelledRows(killed)].flatMap(({ dataset }) => [...dataset.eventTime]);
    expect(rows.length).toBeGreaterThan(50);
    expect(rows.every((time) => time >= state.until && time < killed.until)).toBe(true);
    expect([...unlabelledRows({ ...killed, labelled_until: killed.until })]).toEqual([]);
  });

  it("refuses another town in the same DATA_DIR", () => {
    expect(continueOrBegin(state, { seed: null, customers: null }, clock)).toEqual(state);
    expect(continueOrBegin(state, { seed: 5, customers: 40 }, clock)).toEqual(state);
    for (const asked of [
      { seed: 6, customers: null },
      { seed: null, customers: 41 },
    ]) {
      expect(() => continueOrBegin(state, asked, clock)).toThrow(
        expect.objectContaining({ code: "another_simulation" }),
      );
    }
  });
});

describe("start.json", () => {
  let folder = "";
  beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), "start-state-"))));
  afterEach(() => rm(folder, { recursive: true }));

  it("is empty at first, and comes back as it was written", async () => {
    const dataDir = join(folder, "new");
    const empty = await readStartState(dataDir);
    expect(empty).toEqual({ format: 1, simulated: null, datasets: {} });
    const written = { ...empty, simulated: state, datasets: { ab: { file: "/a.csv", at: "2026-01-01T00:00:00Z" } } };
    await writeStartState(dataDir, written);
    expect(await readStartState(dataDir)).toEqual(written);
    expect(JSON.parse(await readFile(join(dataDir, "start.json"), "utf8"))).toEqual(written);
  });

  it("is refused when it is something else", async () => {
    for (const text of ["", "{", "[]", '{"format":2}', '{"format":1,"simulated":{"seed":"x"},"datasets":{}}']) {
      await writeFile(join(folder, "start.json"), text);
      await expect(readStartState(folder)).rejects.toMatchObject({ code: "bad_start_state" });
    }
  });
});
