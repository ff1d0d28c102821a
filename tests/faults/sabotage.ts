import { setTimeout as sleep } from "node:timers/promises";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import type { WorkerHeartbeat } from "../../schemas/generated.js";
import { eventually } from "../support/eventually.js";
import { check } from "./check.js";
import { Complaints } from "./complaints.js";
import { Feed } from "./feed.js";
import { pause } from "./nemesis.js";
import { Operators } from "./operators.js";
import { seededRandom } from "../../models/training/random.js";
import { settled } from "./settle.js";
import type { Role, Slot } from "./slot.js";
import { PARTITIONS, type System } from "./system.js";
import { Traffic } from "./traffic.js";

/** Guarantees that can be broken on purpose (sabotaged.ts); `none` breaks nothing, and the checker must say so. */
export const SABOTAGES = ["none", "offsets-before-produce", "no-fence", "offset-before-init", "keep-aborted", "commit-before-clickhouse"] as const;
export type Sabotage = (typeof SABOTAGES)[number];

/** What a worker writes to its log that has asked too early where the former owner stands. */
export const FETCHED_EARLY = "sabotage: fetched the committed offset early";

/** Alone it shows nothing: the machine may have been busy. */
export const NEVER_SETTLED = "never settled";

const RATE = 400;
const STEP_MS = 30_000;
const SETTLE_MS = 400_000;
const ROUNDS = 3;
const MOST_ROUNDS = 12;

interface Scene { system: System; random: () => number; signal: AbortSignal }

/** The faults that meet each of them soon. */
const FAULTS: Record<Sabotage, (scene: Scene) => Promise<void>> = {
  none: async (scene) => {
    await killWorkers(scene);
    await stopWorkers(scene);
    await cutWorkers(scene);
    await killSinks(scene);
  },
  "offsets-before-produce": killWorkers,
  "no-fence": stopWorkers,
  "offset-before-init": wakeWorkers,
  "keep-aborted": cutWorkers,
  "commit-before-clickhouse": killSinks,
};

/** Runs roles of which one is broken, meets them with the faults that it can't stand, and gives what the checker says. */
export async function runSabotage({ system, name, seed, signal, say }: { system: System; name: Sabotage; seed: number; signal: AbortSignal; say: (line: string) => void }): Promise<string[]> {
  say(`${name}: starting`);
  const broken: Role = name === "commit-before-clickhouse" ? "sink" : "scoring";
  const modules = name === "none" ? {} : { [broken]: "tests/faults/sabotaged" };
  await system.prepare({ prefix: `${name}-${seed}.`, database: `${name.replaceAll("-", "_")}_${seed}`, settings: { SABOTAGE: name }, modules });
  const complaints = new Complaints();
  const operators = new Operators([...system.apiPorts.values()]);
  try {
    for (const slot of ["scoring-1", "scoring-2", "sink-1", "merchants-1"]) system.slot(slot).start();
    const traffic = new Traffic({ seed, partitions: PARTITIONS, from: Date.now() - 80 * 86_400_000, stepMs: STEP_MS });
    const { transactions, labels } = system.test.topics;
    await shared(system, 0);
    const feed = new Feed(system.kafkaJs, { transactions: transactions.name, labels: labels.name }, traffic, RATE);
    try {
      await pause(3_000, signal);
      await FAULTS[name]({ system, random: seededRandom(seed), signal });
    } finally {
      system.restore();
      await feed.stop();
    }
    signal.throwIfAborted();
    for (const each of await settled(system, SETTLE_MS, signal)) complaints.add(NEVER_SETTLED, each);
    await system.stopAll();
    await check(system, { feed, acknowledged: operators.acknowledged, metrics: { from: 0, to: 0, models: [] }, complaints });
    return complaints.lines;
  } finally {
    await system.discard();
  }
}

async function killWorkers({ system, random, signal }: Scene): Promise<void> {
  for (let round = 0; round < ROUNDS + 1 && !signal.aborted; round++) {
    const slot = system.slot(`scoring-${1 + (round % 2)}`);
    await slot.kill();
    slot.start();
    const since = Date.now();
    await shared(system, since);
    await pause(500 + random() * 1_000, signal);
  }
}

/** Stops a worker until its partitions have moved, and lets it go on. */
async function stopWorkers({ system, random, signal }: Scene): Promise<void> {
  for (let round = 0; round < ROUNDS && !signal.aborted; round++) {
    const [stopped, other] = [system.slot(`scoring-${1 + (round % 2)}`), system.slot(`scoring-${2 - (round % 2)}`)];
    stopped.pause();
    const since = Date.now();
    await eventually("the other worker has every partition", async () => (await owned(system, other, since)) === PARTITIONS, 30_000).catch(() => {}); // it waits for a transaction that is open
    await pause(random() * 1_000, signal);
    stopped.resume();
    await shared(system, Date.now());
    await pause(1_000, signal);
  }
}

/**
 * Stops a worker with a batch in hand, and wakes it when the new owner has asked where it stood. It kills itself as soon as it has
 * committed that batch (sabotaged.ts): living on it would join the group again, which may give it the partition back.
 */
async function wakeWorkers({ system, signal }: Scene): Promise<void> {
  const { cluster, group, topics } = system.test;
  // A busy machine may miss the moment: then a round shows nothing, and there is another.
  for (let round = 0, met = 0; met < ROUNDS && round < MOST_ROUNDS && !signal.aborted; round++) {
    const [stopped, other] = [system.slot(`scoring-${1 + (round % 2)}`), system.slot(`scoring-${2 - (round % 2)}`)];
    const before = other.logged(FETCHED_EARLY);
    const partitions = (await lastBeat(system, stopped, 0))?.partitions.map(({ partition }) => partition) ?? [];
    /** null: a transaction that is about to move them is open. */
    const positions = (): Promise<(number | null)[] | null> => Promise.all(partitions.map((partition) => committedOffset(cluster, group, { topic: topics.transactions.name, partition }, 0))).catch(() => null);
    await pauseBetweenTransactions(stopped, positions, signal);
    await eventually("the new owner has asked", () => other.logged(FETCHED_EARLY) > before, 20_000).catch(() => {});
    stopped.mayEnd();
    stopped.resume();
    if (await eventually("it has committed", () => !stopped.running, 2_000).catch(() => false)) met += 1;
    await stopped.kill();
    // Started before the new owner has scored from where it asked, it would take the partitions away again.
    const left = await eventually("nothing is open", async () => (await positions()) ?? undefined, 20_000).catch(() => null);
    await eventually("the new owner goes on", async () => (await positions())?.every((offset, i) => (offset ?? 0) > (left?.[i] ?? 0)), 30_000).catch(() => {});
    stopped.start();
    await shared(system, Date.now());
    await pause(1_000, signal);
  }
}

/** A worker that stands still within a transaction holds up whoever asks for the committed offset. */
async function pauseBetweenTransactions(slot: Slot, positions: () => Promise<unknown>, signal: AbortSignal): Promise<void> {
  for (let tries = 0; ; tries++) {
    slot.pause();
    await sleep(20);
    if ((await positions()) !== null || tries === 200 || signal.aborted) return;
    slot.resume();
    await sleep(30);
  }
}

async function cutWorkers({ system, random, signal }: Scene): Promise<void> {
  for (let round = 0; round < 5 * ROUNDS && !signal.aborted; round++) {
    const proxy = system.proxy(`scoring-${1 + (round % 2)}`, "kafka");
    proxy.mode = { kind: "down" };
    await sleep(20);
    proxy.mode = { kind: "up" };
    await pause(600 + random() * 600, signal);
  }
}

async function killSinks({ system, signal }: Scene): Promise<void> {
  for (let round = 0; round < ROUNDS && !signal.aborted; round++) {
    const sink = system.slot("sink-1");
    system.proxy("sink-1", "clickhouse").mode = { kind: "down" };
    await pause(3_000, signal);
    await sink.kill();
    system.proxy("sink-1", "clickhouse").mode = { kind: "up" };
    sink.start();
    const ready = sink.logged("storing in ClickHouse");
    await eventually("the sink stores again", () => sink.logged("storing in ClickHouse") > ready, 240_000);
    await pause(3_000, signal);
  }
}

/** Waits until each of the two workers has reported partitions of its own since a time. */
async function shared(system: System, since: number): Promise<void> {
  await eventually("two workers share the partitions", async () => {
    const counts = [await owned(system, system.slot("scoring-1"), since), await owned(system, system.slot("scoring-2"), since)];
    return counts.every((count) => count > 0);
  }, 90_000).catch(() => {}); // broken ones may not come that far
}

async function owned(system: System, slot: Slot, since: number): Promise<number> {
  return (await lastBeat(system, slot, since))?.partitions.length ?? 0;
}

async function lastBeat(system: System, slot: Slot, since: number): Promise<WorkerHeartbeat | undefined> {
  const { beats } = await system.test.heartbeats();
  return beats.filter(({ worker, at }) => worker.includes(`-${slot.pid}-`) && at >= since).at(-1);
}
