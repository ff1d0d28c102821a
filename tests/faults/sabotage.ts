import { setTimeout as sleep } from "node:timers/promises";
import { committedOffset } from "../../infra/kafka/group-membership.js";
import type { Role } from "../../infra/roles.js";
import type { WorkerHeartbeat } from "../../schemas/generated.js";
import { eventually } from "../support/eventually.js";
import { check } from "./check.js";
import { Complaints } from "./complaints.js";
import { Feed } from "./feed.js";
import { Gate } from "./gate.js";
import { pause } from "./nemesis.js";
import { Operators } from "./operators.js";
import { seededRandom } from "../../models/training/random.js";
import { settled } from "./settle.js";
import type { Slot } from "./slot.js";
import { PARTITIONS, type System } from "./system.js";
import { Traffic } from "./traffic.js";

/**
 * What workers write to their logs when a tenure begins (sabotaged.ts): the former owner's offset was asked for; a
 * batch from there, which that one had committed meanwhile, was committed again.
 */
export const ASKED = "sabotage: asked where the former owner stands";
export const WENT_ON = "sabotage: went on from where the former owner had stood";

const NEVER_SETTLED = "never settled";

const RATE = 400;
const STEP_MS = 30_000;
const SETTLE_MS = 400_000;
const ROUNDS = 3;
const MOST_ROUNDS = 12;

interface Scene {
  system: System;
  random: () => number;
  signal: AbortSignal;
  say: (line: string) => void;
}

interface Case {
  /** The role that sabotaged.ts changes; null: none. */
  broken: Role | null;
  /** What meets it soon. */
  faults: (scene: Scene) => Promise<void>;
  /** The kind of complaint that the checker must come to; null: it must have none. */
  draws: string | null;
  /**
   * False: records that nobody can read are left out. A worker that finds the dead letter of one lost does not start
   * (`history_gap`), so that nothing settles.
   */
  unreadable?: boolean;
}

/** Guarantees that can be broken on purpose, and two cases in which none is. */
const CASES = {
  none: {
    broken: null,
    draws: null,
    faults: async (scene: Scene) => {
      await killWorkers(scene);
      await stopWorkers(scene);
      await cutWorkers(scene);
      await killSinks(scene);
    },
  },
  "offsets-before-produce": { broken: "scoring", faults: killWorkers, draws: "lost", unreadable: false },
  "no-fence": { broken: "scoring", faults: stopWorkers, draws: "doubled" },
  "offset-before-init": {
    broken: "scoring",
    faults: (scene: Scene) => wakeWorkers(scene, MOST_ROUNDS),
    draws: "doubled",
  },
  "offset-after-init": { broken: "scoring", faults: (scene: Scene) => wakeWorkers(scene, ROUNDS), draws: null },
  "keep-aborted": { broken: "scoring", faults: cutWorkers, draws: "wrong outcome" },
  "labels-by-offset": { broken: "sink", faults: killSinks, draws: "ClickHouse labels" },
  "commit-before-clickhouse": { broken: "sink", faults: killSinks, draws: "ClickHouse" },
} satisfies Record<string, Case>;
export type Sabotage = keyof typeof CASES;
export const SABOTAGES = Object.keys(CASES) as Sabotage[];

/** @returns whether the checker was right, and that in words */
export function verdictOf(name: Sabotage, said: readonly string[]): { right: boolean; words: string } {
  const { draws } = CASES[name];
  if (draws === null)
    return said.length === 0
      ? { right: true, words: "nothing is wrong, as it must be" }
      : { right: false, words: "WRONG, though nothing was broken" };
  // What nobody has read yet would count as lost.
  if (said.some((each) => each.startsWith(NEVER_SETTLED)))
    return { right: false, words: "NOT SHOWN: it never settled, and the machine may have been busy" };
  return said.some((each) => each.startsWith(draws))
    ? { right: true, words: "caught" }
    : { right: false, words: `NOT CAUGHT: nothing was ${draws}` };
}

/**
 * Runs roles of which one is broken, meets them with the faults that it can't stand, and gives what the checker says.
 */
export async function runSabotage({
  system,
  name,
  seed,
  signal,
  say,
}: {
  system: System;
  name: Sabotage;
  seed: number;
  signal: AbortSignal;
  say: (line: string) => void;
}): Promise<string[]> {
  say(`${name}: starting`);
  const { broken, faults, unreadable = true }: Case = CASES[name];
  const modules = broken === null ? {} : { [broken]: "tests/faults/sabotaged" };
  await system.prepare({
    prefix: `${name}-${seed}.`,
    database: `${name.replaceAll("-", "_")}_${seed}`,
    settings: { SABOTAGE: name },
    modules,
  });
  const complaints = new Complaints();
  const operators = new Operators([...system.apiPorts.values()]);
  try {
    for (const slot of ["scoring-1", "scoring-2", "sink-1", "merchants-1"]) system.slot(slot).start();
    const from = Date.now() - 80 * 86_400_000;
    const traffic = new Traffic({ seed, partitions: PARTITIONS, from, stepMs: STEP_MS, unreadable });
    const { transactions, labels } = system.test.topics;
    await shared(system, 0);
    const feed = new Feed(system.kafkaJs, { transactions: transactions.name, labels: labels.name }, traffic, {
      perSecond: RATE,
      gate: new Gate(),
    });
    try {
      await pause(3_000, signal);
      await faults({ system, random: seededRandom(seed), signal, say });
    } finally {
      system.restore();
      await feed.stop();
    }
    signal.throwIfAborted();
    for (const each of await settled(system, SETTLE_MS, signal)) complaints.add(NEVER_SETTLED, each);
    await system.stopAll();
    await check(system, {
      feed,
      acknowledged: operators.acknowledged,
      metrics: { from: 0, to: 0, models: [] },
      complaints,
    });
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
    await eventually(
      "the other worker has every partition",
      async () => (await owned(system, other, since)) === PARTITIONS,
      30_000,
    ).catch(() => {}); // it waits for a transaction that is open
    await pause(random() * 1_000, signal);
    stopped.resume();
    await shared(system, Date.now());
    await pause(1_000, signal);
  }
}

/**
 * Stops a worker with a batch in hand, and wakes it when the new owner has asked where it stood. It commits that batch,
 * unless it is shut out already, and kills itself (sabotaged.ts): living on it would join the group again, which may
 * give it the partition back.
 */
async function wakeWorkers({ system, signal, say }: Scene, mostRounds: number): Promise<void> {
  const { cluster, group, topics } = system.test;
  let met = 0;
  let round = 0;
  // A round in which the partition moves on before its new owner has scored shows nothing.
  for (; met < ROUNDS && round < mostRounds && !signal.aborted; round++) {
    const [stopped, other] = [system.slot(`scoring-${1 + (round % 2)}`), system.slot(`scoring-${2 - (round % 2)}`)];
    const [asked, wentOn] = [other.logged(ASKED), other.logged(WENT_ON)];
    const partitions = (await lastBeat(system, stopped, 0))?.partitions.map(({ partition }) => partition) ?? [];
    /** Whether no transaction is open that is about to move their offsets. */
    const isStable = (): Promise<boolean> =>
      Promise.all(
        partitions.map((partition) =>
          committedOffset(cluster, group, { topic: topics.transactions.name, partition }, 0),
        ),
      ).then(
        () => true,
        () => false,
      );
    await pauseBetweenTransactions(stopped, isStable, signal);
    await eventually("the new owner has asked", () => other.logged(ASKED) > asked, 20_000).catch(() => {});
    stopped.mayEnd();
    stopped.resume();
    if (await eventually("it goes on from there", () => other.logged(WENT_ON) > wentOn, 10_000).catch(() => false))
      met += 1;
    await stopped.kill();
    stopped.start();
    await shared(system, Date.now());
    await pause(1_000, signal);
  }
  say(`  ${met} of ${round} times a new owner went on from where the former one had stood before its last batch`);
}

/** A worker that stands still within a transaction holds up whoever asks for the committed offset. */
async function pauseBetweenTransactions(
  slot: Slot,
  isStable: () => Promise<boolean>,
  signal: AbortSignal,
): Promise<void> {
  for (let tries = 0; ; tries++) {
    slot.pause();
    await sleep(20);
    if ((await isStable()) || tries === 200 || signal.aborted) return;
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
  await eventually(
    "two workers share the partitions",
    async () => {
      const counts = [
        await owned(system, system.slot("scoring-1"), since),
        await owned(system, system.slot("scoring-2"), since),
      ];
      return counts.every((count) => count > 0);
    },
    90_000,
  ).catch(() => {}); // broken ones may not come that far
}

async function owned(system: System, slot: Slot, since: number): Promise<number> {
  return (await lastBeat(system, slot, since))?.partitions.length ?? 0;
}

async function lastBeat(system: System, slot: Slot, since: number): Promise<WorkerHeartbeat | undefined> {
  const { beats } = await system.test.heartbeats();
  return beats.filter(({ worker, at }) => worker.includes(`-${slot.pid}-`) && at >= since).at(-1);
}
