import { seededRandom } from "../../models/training/random.js";
import type { ForeignTransaction, Ending } from "./foreign-transactions.js";
import { HANGS, MUTE, PARTITIONS } from "./system.js";
import type { RecreatedTopic } from "./traffic.js";

/**
 * What the nemesis does, and when: drawn from the seed before anything runs, so that a seed means the same faults
 * again.
 */
export type Action =
  | { kind: "kill"; slot: string; downMs: number }
  /** SIGSTOP, for longer than the group waits for a member, then SIGCONT: it wakes after its partitions have moved. */
  | { kind: "pause"; slot: string; forMs: number }
  | { kind: "stop"; slot: string; downMs: number }
  | { kind: "cut" | "silence"; slot: string; engine: "kafka" | "clickhouse"; forMs: number }
  | {
      kind: "slow";
      slot: string;
      engine: "kafka" | "clickhouse";
      forMs: number;
      delayMs: number;
      bytesPerSecond: number;
    }
  | { kind: "flap"; slot: string; engine: "kafka" | "clickhouse"; times: number; everyMs: number }
  | { kind: "engine-kill" | "engine-restart"; engine: "kafka" | "clickhouse"; downMs: number }
  | { kind: "engine-pause"; engine: "kafka" | "clickhouse"; forMs: number }
  | { kind: "deploy"; model: string; role: "champion" | "shadow"; enabled: boolean }
  | { kind: "train"; seed: number }
  | { kind: "cancel" }
  /** A record of so many zeros that travels as a thousandth of it, into a partition of transactions. */
  | { kind: "bomb"; partition: number; megabytes: number }
  | { kind: "replay"; code: string }
  /** Somebody else's transaction stays open. */
  | ({ kind: "foreign" } & ForeignTransaction)
  | { kind: "add-partitions"; topic: RecreatedTopic; more: number }
  /** A topic is deleted and created again, when all of it has been read or before. */
  | { kind: "recreate"; topic: RecreatedTopic; drain: boolean }
  /** One worker after the other becomes the next version, and the producers write the next version of their schema. */
  | { kind: "upgrade"; slots: string[]; everyMs: number };

/** `at`: milliseconds from the beginning of the faults. */
export interface Planned {
  at: number;
  action: Action;
}

const SLOTS: readonly (readonly [string, number])[] = [
  ["scoring-1", 8],
  ["scoring-2", 8],
  ["scoring-3", 8],
  ["sink-1", 5],
  ["sink-2", 5],
  ["merchants-1", 5],
  ["merchants-2", 5],
  ["training-1", 2],
  ["training-2", 2],
  ["api-1", 1],
  ["api-2", 1],
];
const KINDS: readonly (readonly [Drawn, number])[] = [
  ["kill", 20],
  ["pause", 12],
  ["stop", 9],
  ["cut", 9],
  ["flap", 7],
  ["slow", 8],
  ["silence", 5],
  ["deploy", 14],
  ["replay", 7],
  ["train", 4],
  ["cancel", 2],
  ["bomb", 6],
];
const SHADOWS = ["plain@1", "cards@1", "windows@2"];
/** The last is more than a batch may unpack to. */
const BOMBS = [40, 120, 300, 560];
const CODES = ["avro_truncated", "no_score", "repeated", "unknown_schema"];
const ENDINGS: readonly (readonly [Ending, number])[] = [
  ["abort", 3],
  ["commit", 4],
  ["fence", 3],
  ["timeout", 3],
];
const FOREIGN_EVERY_MS = 22_000;
/** Each engine is stopped or killed about this often. */
const ENGINE_EVERY_MS = 75_000;

/** @param durationMs how long faults go on */
export function planOf(seed: number, durationMs: number): Planned[] {
  const random = seededRandom(seed);
  const between = (least: number, most: number): number => Math.round(least + random() * (most - least));
  const planned: Planned[] = [];
  for (let at = between(500, 2_000); at < durationMs; at += between(1_500, 6_000))
    planned.push({ at, action: draw(weighted(KINDS, random), random, between) });
  for (const engine of ["kafka", "clickhouse"] as const) {
    for (
      let at = between(10_000, ENGINE_EVERY_MS);
      at < durationMs - 10_000;
      at += between(ENGINE_EVERY_MS * 0.6, ENGINE_EVERY_MS * 1.4)
    ) {
      const kind = weighted(
        [
          ["engine-kill", 5],
          ["engine-restart", 3],
          ["engine-pause", 3],
        ] as const,
        random,
      );
      planned.push({
        at,
        action:
          kind === "engine-pause"
            ? { kind, engine, forMs: random() < 0.4 ? between(12_000, 40_000) : between(1_000, 9_000) }
            : { kind, engine, downMs: between(0, 6_000) },
      });
    }
  }
  const upgraded = [
    ["scoring-1", "scoring-2", "scoring-3"],
    ["scoring-2", "scoring-3"],
  ][between(0, 1)];
  planned.push({
    at: Math.round(durationMs * (0.3 + random() * 0.3)),
    action: { kind: "upgrade", slots: upgraded, everyMs: between(3_000, 8_000) },
  });
  // Drawn last, so that the other faults of a seed are those of before. Whatever is deployed next takes their place.
  for (const [model, from] of [
    [MUTE, 0.1],
    [HANGS, 0.55],
  ] as const)
    planned.push({
      at: Math.round(durationMs * (from + random() * 0.3)),
      action: { kind: "deploy", model, role: "champion", enabled: true },
    });
  planned.push(...topicFaults(durationMs, random, between));
  return planned.sort((a, b) => a.at - b.at);
}

/** What befalls the topics themselves. */
function topicFaults(
  durationMs: number,
  random: () => number,
  between: (least: number, most: number) => number,
): Planned[] {
  const planned: Planned[] = [];
  const at = (from: number, to: number): number => Math.round(durationMs * (from + random() * (to - from)));
  for (let i = 0; i < Math.max(2, durationMs / FOREIGN_EVERY_MS); i++) {
    const topic = random() < 0.75 ? "transactions" : "labels";
    const openMs = random() < 0.5 ? between(2_000, 8_000) : between(12_000, 25_000);
    planned.push({
      at: at(0.05, 0.85),
      action: {
        kind: "foreign",
        topic,
        partition: between(0, PARTITIONS - 1),
        records: between(1, 20),
        openMs,
        ending: weighted(ENDINGS, random),
      },
    });
  }
  planned.push({ at: at(0.15, 0.4), action: { kind: "add-partitions", topic: "transactions", more: between(1, 2) } });
  if (random() < 0.5) planned.push({ at: at(0.15, 0.4), action: { kind: "add-partitions", topic: "labels", more: 1 } });
  for (const topic of ["transactions", "labels"] as const) {
    const drawn = random();
    if (drawn < 0.8) planned.push({ at: at(0.35, 0.75), action: { kind: "recreate", topic, drain: drawn < 0.4 } });
  }
  return planned;
}

type Drawn = Exclude<
  Action["kind"],
  "upgrade" | "engine-kill" | "engine-restart" | "engine-pause" | "foreign" | "add-partitions" | "recreate"
>;

function draw(kind: Drawn, random: () => number, between: (least: number, most: number) => number): Action {
  const slot = weighted(SLOTS, random);
  const usesClickHouse = /sink|api/.test(slot);
  const engine = usesClickHouse && random() < 0.5 ? "clickhouse" : "kafka";
  switch (kind) {
    case "kill":
    case "stop":
      return { kind, slot, downMs: between(0, 4_000) };
    case "pause":
      return { kind, slot, forMs: between(6_500, 14_000) };
    case "cut":
      return { kind, slot, engine, forMs: between(300, 9_000) };
    case "silence":
      return { kind, slot, engine, forMs: between(2_000, 12_000) };
    case "slow":
      return {
        kind,
        slot,
        engine,
        forMs: between(4_000, 15_000),
        delayMs: between(20, 400),
        bytesPerSecond: between(30_000, 400_000),
      };
    case "flap":
      return { kind, slot, engine, times: between(2, 6), everyMs: between(150, 1_500) };
    case "train":
      return { kind, seed: between(1, 1_000_000) };
    case "replay":
      return { kind, code: CODES[between(0, CODES.length - 1)] };
    case "deploy":
      if (random() < 0.5) return { kind, model: `windows@${between(1, 2)}`, role: "champion", enabled: true };
      return { kind, model: SHADOWS[between(0, SHADOWS.length - 1)], role: "shadow", enabled: random() < 0.6 };
    case "cancel":
      return { kind };
    case "bomb":
      return { kind, partition: between(0, 3), megabytes: BOMBS[between(0, BOMBS.length - 1)] };
  }
}

function weighted<T>(choices: readonly (readonly [T, number])[], random: () => number): T {
  let left = random() * choices.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [choice, weight] of choices) if ((left -= weight) < 0) return choice;
  return choices[0][0];
}
