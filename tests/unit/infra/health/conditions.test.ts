import { pino } from "pino";
import { expect, test } from "vitest";
import { Conditions } from "../../../../infra/health/conditions.js";
import { createRegistry } from "../../../../infra/metrics/registry.js";

function logged(): { log: pino.Logger; lines: { level: number; msg: string }[] } {
  const lines: { level: number; msg: string }[] = [];
  const log = pino(
    {},
    { write: (line: string) => void lines.push(JSON.parse(line) as { level: number; msg: string }) },
  );
  return { log, lines };
}

test("a condition is logged once when it is raised and once when it is cleared", () => {
  const { log, lines } = logged();
  const conditions = new Conditions(log);
  conditions.raise("open_transaction", "t[0]", "5 s", { blocking: false });
  conditions.raise("open_transaction", "t[0]", "10 s", { blocking: false });
  expect(conditions.list().map(({ message }) => message)).toEqual(["10 s"]);
  conditions.clear("open_transaction", "t[0]");
  conditions.clear("open_transaction", "t[0]");
  expect(lines.map(({ level, msg }) => [level, msg])).toEqual([
    [40, "5 s"],
    [30, "over: 10 s"],
  ]);
  expect(conditions.list()).toEqual([]);
});

test("only blocking conditions make a role unready; a change to blocking is logged again and keeps the time", () => {
  const { log, lines } = logged();
  const conditions = new Conditions(log);
  conditions.set(true, "kafka_silent", "b1", () => "broker 1", { blocking: false });
  const [{ since }] = conditions.list();
  expect(conditions.blocking).toBe(false);
  conditions.set(true, "kafka_silent", "b1", () => "every broker", { blocking: true });
  expect(conditions.blocking).toBe(true);
  expect(conditions.list()).toEqual([{ code: "kafka_silent", message: "every broker", blocking: true, since }]);
  expect(lines).toHaveLength(2);
  conditions.set(false, "kafka_silent", "b1", () => "", { blocking: true });
  expect(conditions.blocking).toBe(false);
});

test("the gauge counts conditions by code, whatever their subject", async () => {
  const registry = createRegistry();
  const conditions = new Conditions(logged().log, registry);
  for (const partition of [0, 1]) conditions.raise("open_transaction", `t[${partition}]`, "waits", { blocking: true });
  conditions.raise("retention_passed", "t[0]", "gone", { blocking: false });
  const text = await registry.metrics();
  expect(text).toContain('fraudstream_condition{code="open_transaction",blocking="true"} 2');
  expect(text).toContain('fraudstream_condition{code="retention_passed",blocking="false"} 1');
});
