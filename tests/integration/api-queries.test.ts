import { EventEmitter, once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { QueryDesk, SHARES, type QueryKind } from "../../api/queries/query-desk.js";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { createRegistry, gauge, metricsText } from "../../infra/metrics/registry.js";
import { clickhouseDatabase } from "../support/clickhouse-database.js";
import { clickhouseConfig } from "../support/engines.js";
import { eventually } from "../support/eventually.js";

/** Hours of work, unless it is ended. */
const MARK = `mark-${process.pid}-${Date.now()}`;
const ENDLESS =
  "SELECT count() AS count FROM numbers(1000000000000) " + `WHERE sipHash64(number) % 7 = 1 AND '${MARK}' != ''`;
const request = (id = "u") => ({ user: { id } }) as never;
const caller = () => Object.assign(new EventEmitter(), { destroyed: false });

test("a query ends with its caller, few heavy ones run at a time, and look-ups have a separate share", async () => {
  const clickhouse = await clickhouseDatabase();
  const desk = new QueryDesk(clickhouse, { ...SHARES, heavy: { atOnce: 2, waiting: 2, ofUser: 3, limitMs: 60_000 } });
  const running = async (): Promise<number> =>
    (
      await clickhouse.query<{ n: number }>(
        `SELECT count() AS n FROM system.processes WHERE query LIKE '%${MARK}%' AND query NOT LIKE ` +
          "'%system.processes%'",
      )
    )[0].n;
  const ask = (raw: ReturnType<typeof caller>, user = "u", kind: QueryKind = "heavy", sql = ENDLESS) => {
    const answer = desk.ask(kind, request(user), { raw } as never, (reader) => reader.query(sql));
    answer.catch(() => undefined);
    return answer;
  };
  const callers = Array.from({ length: 4 }, caller);
  const answers = callers.map((raw, i) => ask(raw, `u${i % 2}`));
  await eventually("two run", async () => (await running()) === 2);
  expect(desk.underWay("heavy")).toBe(4);
  await expect(ask(caller(), "u3")).rejects.toMatchObject({
    status: 503,
    code: "busy",
    headers: { "retry-after": "2" },
  });
  await expect(ask(caller(), "u4", "lookup", "SELECT 1 AS one")).resolves.toEqual([{ one: 1 }]);
  // One that waits goes without ever having asked; one that asks ends on the server, and the next has its place.
  callers[3].emit("close");
  await expect(answers[3]).rejects.toMatchObject({ status: 499 });
  expect(desk.underWay("heavy")).toBe(3);
  callers[0].emit("close");
  await expect(answers[0]).rejects.toMatchObject({ status: 499 });
  expect(desk.underWay("heavy")).toBe(2);
  callers[1].emit("close");
  callers[2].emit("close");
  await Promise.allSettled(answers);
  await eventually("nothing of it runs any more", async () => (await running()) === 0);
  expect(desk.underWay("heavy")).toBe(0);
  const own = Array.from({ length: 4 }, () => ask(caller(), "greedy", "lookup", "SELECT 1 AS one"));
  await expect(Promise.all(own)).resolves.toHaveLength(4);
});

test("a query over its time limit, and a ClickHouse that does not answer, are a 503 within seconds", async () => {
  const clickhouse = await clickhouseDatabase();
  const desk = new QueryDesk(clickhouse, { ...SHARES, lookup: { ...SHARES.lookup, limitMs: 1_500 } });
  const begun = performance.now();
  await expect(
    desk.ask("lookup", request(), { raw: caller() } as never, (reader) => reader.query(ENDLESS)),
  ).rejects.toMatchObject({ status: 503, code: "query_too_long" });
  const silent = createServer(() => undefined).listen(0, "127.0.0.1");
  await once(silent, "listening");
  onTestFinished(() => void silent.close());
  const frozen = createClickHouse({
    ...clickhouseConfig("default"),
    url: `http://127.0.0.1:${(silent.address() as AddressInfo).port}`,
  });
  onTestFinished(() => frozen.close());
  for (const kind of ["heavy", "lookup"] as const) {
    await expect(
      new QueryDesk(frozen).ask(kind, request(), { raw: caller() } as never, (reader) => reader.query("SELECT 1")),
    ).rejects.toMatchObject({ status: 503, code: "clickhouse_unreachable", told: true });
  }
  expect(performance.now() - begun).toBeLessThan(40_000);
});

test("metrics are computed once for all who ask at the same time", async () => {
  const registry = createRegistry();
  let reads = 0;
  gauge(registry, { name: "reads", help: "x", read: () => [{ value: (reads += 1) }] });
  const text = metricsText(registry, 50);
  const texts = await Promise.all(Array.from({ length: 30 }, text));
  expect([reads, new Set(texts).size]).toEqual([1, 1]);
  await eventually("they are made again", async () => (await text()).includes("reads 2"));
});
