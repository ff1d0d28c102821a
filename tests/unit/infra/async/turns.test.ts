import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Turns } from "../../../../infra/async/turns.js";

test("tasks run in the order they were requested, one at a time, also after one has failed", async () => {
  const turns = new Turns();
  const done: string[] = [];
  const step = (name: string, ms: number): Promise<string> =>
    turns.take(async () => {
      done.push(`${name} begins`);
      await sleep(ms);
      done.push(`${name} ends`);
      if (name === "b") throw new Error("b failed");
      return name;
    });
  const all = Promise.allSettled([step("a", 20), step("b", 1), step("c", 0)]);
  await turns.over();
  expect(done).toEqual(["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
  expect((await all).map((result) => (result.status === "fulfilled" ? result.value : String(result.reason)))).toEqual([
    "a",
    "Error: b failed",
    "c",
  ]);
});
