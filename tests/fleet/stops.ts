import { setTimeout as sleep } from "node:timers/promises";
import type { Fleet } from "./fleet.js";
import type { Finding } from "./finding.js";
import { Traffic } from "./traffic.js";

/** `all` stands for a cluster of one broker, which is lost. The number: seconds between the loss and the signal. */
export const STOPS = [
  "none-0",
  "frozen-1",
  "frozen-8",
  "frozen-25",
  "killed-1",
  "killed-8",
  "all-frozen-1",
  "all-frozen-20",
  "all-killed-1",
  "all-killed-20",
] as const;
export type Stop = (typeof STOPS)[number];

const PER_TICK = 2;
/** A few seconds; Kubernetes kills after 30. */
const WITHIN_MS = 12_000;
const PATIENCE_MS = 60_000;

/** Tells every role to stop while brokers are lost. */
export async function stopWhile(fleet: Fleet, stop: Stop, { say }: { say: (line: string) => void }): Promise<Finding> {
  const { brokers } = fleet;
  const lost = stop.startsWith("none") ? [] : stop.startsWith("all") ? brokers.ids : [1];
  const killed = stop.includes("killed");
  const traffic = await Traffic.start(fleet.system, PER_TICK);
  await sleep(3_000);
  say(`${stop}: brokers ${lost.join(", ")}`);
  if (killed) await Promise.all(lost.map((broker) => brokers.kill(broker)));
  else for (const broker of lost) brokers.freeze(broker);
  await sleep(Number(stop.split("-").at(-1)) * 1_000);
  const asked = Date.now();
  const took = Object.fromEntries(
    await Promise.all(
      fleet.members.map(async ({ slot }) => {
        const exit = await slot.stop(PATIENCE_MS);
        return [
          slot.name,
          { ms: Date.now() - asked, exit: exit === "hung" || exit === null ? exit : (exit.signal ?? exit.code) },
        ] as const;
      }),
    ),
  );
  if (killed) await brokers.restart();
  else for (const broker of lost) brokers.thaw(broker);
  await traffic.stop();
  const wrong = Object.entries(took).flatMap(([name, { ms, exit }]) => [
    ...(ms > WITHIN_MS ? [`${name} took ${ms} ms to stop`] : []),
    ...(exit !== 0 ? [`${name} ended with ${exit}`] : []),
  ]);
  return {
    scenario: `stop ${stop}`,
    figures: { ms: Object.fromEntries(Object.entries(took).map(([name, { ms }]) => [name, ms])) },
    wrong,
  };
}
