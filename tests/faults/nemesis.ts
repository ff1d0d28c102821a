import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../../schemas/errors.js";
import type { Complaints } from "./complaints.js";
import type { Engine } from "./engines.js";
import type { Feed } from "./feed.js";
import type { ForeignProducers } from "./foreign-transactions.js";
import { addPartitions, recreate, untilDone, type FormerTopic } from "./former-topics.js";
import type { Gate } from "./gate.js";
import type { Operators } from "./operators.js";
import type { Action, Planned } from "./plan.js";
import type { System } from "./system.js";
import type { RecreatedTopic } from "./traffic.js";
import { CODECS, pack, packedBatch, publishBatch, recordPieces } from "../support/bombs.js";

/**
 * A role notices within a second or so that it stands behind an open transaction, and reports it after five: unless it
 * is killed or stopped meanwhile, or the machine is busy. One that lasts for LONG_OPEN_MS is kept open until a role has
 * reported it, but no longer than MUST_BE_SAID_MS.
 */
const LONG_OPEN_MS = 10_000;
const MUST_BE_SAID_MS = 60_000;
const LOOK_EVERY_MS = 500;
const BOMB_TAKES_MS = 30_000;

/** What was done, and what came of it, for the record. */
export interface NemesisReport {
  /** How often each kind of action was carried out. */
  done: Record<string, number>;
  /** Actions whose target was in another fault at the time, or gone. */
  skipped: number;
}

export interface NemesisOptions {
  system: System;
  operators: Operators;
  feed: Feed;
  gate: Gate;
  foreign: ForeignProducers;
  complaints: Complaints;
  /** Each action as one JSON line, with its time. */
  logFile: string;
  signal: AbortSignal;
}

/** Carries a plan out. Actions overlap; a role process or an engine is in one at a time. */
export class Nemesis {
  readonly #options: NemesisOptions;
  readonly #busy = new Set<string>();
  readonly #report: NemesisReport = { done: {}, skipped: 0 };
  readonly #startedAt = Date.now();
  /** What was deleted and created again, in the order of that. */
  readonly formers: FormerTopic[] = [];
  /** Somebody else's transactions that are open, and whether no more may be opened: a topic is being deleted. */
  readonly #foreign = new Set<Promise<void>>();
  #deleting = false;
  /** When Kafka was last disturbed, epoch milliseconds. */
  #kafkaDisturbedAt = 0;
  /**
   * When a partition was last sent a bomb, which each of its readers unpacks: for tens of seconds on a busy machine.
   */
  readonly #bombedAt = new Map<number, number>();

  constructor(options: NemesisOptions) {
    this.#options = options;
  }

  /** Ends when every action has ended, and what it took away is back. */
  async run(plan: readonly Planned[], durationMs: number): Promise<NemesisReport> {
    const { signal } = this.#options;
    const running: Promise<void>[] = [];
    for (const { at, action } of plan) {
      await pause(this.#startedAt + at - Date.now(), signal);
      if (signal.aborted) break;
      running.push(this.#carryOut(action));
    }
    await pause(this.#startedAt + durationMs - Date.now(), signal);
    await Promise.all(running);
    return this.#report;
  }

  async #carryOut(action: Action): Promise<void> {
    const target = targetOf(action);
    // A topic that is deleted and created again has its turn when the one before has had it, and nobody writes to one
    // meanwhile.
    const mustWait = (): boolean =>
      (action.kind === "recreate" && this.#busy.has(target)) || (action.kind === "foreign" && this.#deleting);
    while (mustWait() && !this.#options.signal.aborted) await pause(200, this.#options.signal);
    if (this.#busy.has(target) || this.#options.signal.aborted) {
      this.#report.skipped += 1;
      this.#log({ skipped: action });
      return;
    }
    this.#busy.add(target);
    this.#log({ begins: action });
    this.#report.done[action.kind] = (this.#report.done[action.kind] ?? 0) + 1;
    try {
      const outcome = await this.#act(action);
      this.#log({ ended: action.kind, target, ...(outcome === undefined ? {} : { outcome }) });
    } catch (error) {
      this.#log({ failed: action.kind, target, error: messageOf(error) });
      throw error;
    } finally {
      this.#busy.delete(target);
    }
  }

  async #act(action: Action): Promise<string | undefined> {
    const { system, operators, feed, gate, signal } = this.#options;
    switch (action.kind) {
      case "kill": {
        const slot = system.slot(action.slot);
        await slot.kill();
        await pause(action.downMs, signal);
        slot.start();
        return;
      }
      case "stop": {
        const slot = system.slot(action.slot);
        const exit = await slot.stop();
        // One that hadn't come to where it hears it ends by the signal itself.
        if (exit === "hung" || (exit !== null && exit.signal !== "SIGTERM"))
          this.#options.complaints.addExit(slot, exit);
        await pause(action.downMs, signal);
        slot.start();
        return JSON.stringify(exit);
      }
      case "pause": {
        const slot = system.slot(action.slot);
        slot.pause();
        await pause(action.forMs, signal);
        slot.resume();
        return;
      }
      case "cut":
      case "silence":
      case "slow": {
        const proxy = system.proxy(action.slot, action.engine);
        proxy.mode =
          "delayMs" in action
            ? { kind: "slow", delayMs: action.delayMs, bytesPerSecond: action.bytesPerSecond }
            : action.kind === "cut"
              ? { kind: "down" }
              : { kind: "silent" };
        await pause(action.forMs, signal);
        proxy.mode = { kind: "up" };
        return;
      }
      case "flap": {
        const proxy = system.proxy(action.slot, action.engine);
        for (let i = 0; i < action.times; i++) {
          proxy.mode = { kind: "down" };
          proxy.mode = { kind: "up" };
          await pause(action.everyMs, signal);
        }
        return;
      }
      case "engine-kill":
      case "engine-restart":
      case "engine-pause":
        return this.#disturb(system[action.engine], action);
      case "deploy":
        return operators.deploy(action.model, action);
      case "train":
        return operators.train(action.seed);
      case "cancel":
        return operators.cancel();
      case "bomb": {
        const batch = packedBatch(
          CODECS.gzip,
          pack("gzip", recordPieces([{ key: Buffer.from("bomb"), value: { zeros: action.megabytes * 1e6 } }])),
          1,
        );
        const { cluster, topics } = system.test;
        this.#bombedAt.set(action.partition % topics.transactions.partitions, Date.now());
        // Whether or not it is acknowledged: the ledger is what the topic has.
        return gate.pass(() =>
          publishBatch(
            cluster,
            topics.transactions.name,
            action.partition % topics.transactions.partitions,
            batch,
          ).then(
            (offset) => `at ${offset}`,
            (error: unknown) => `not acknowledged: ${messageOf(error)}`,
          ),
        );
      }
      case "replay":
        return gate.pass(() => operators.replay(action.code));
      case "foreign":
        return this.#openForeign(action);
      case "add-partitions":
        return this.#addPartitions(action);
      case "recreate":
        return this.#recreate(action);
      case "upgrade": {
        for (const name of action.slots) {
          await this.#restart(name, "tests/faults/next-version");
          feed.state.upgraded = true;
          await pause(action.everyMs, signal);
        }
        return;
      }
    }
  }

  async #disturb(
    engine: Engine,
    action: Extract<Action, { engine: string; kind: "engine-kill" | "engine-restart" | "engine-pause" }>,
  ): Promise<string> {
    const { signal } = this.#options;
    if (engine.name === "kafka") this.#kafkaDisturbedAt = Date.now();
    if (action.kind === "engine-pause") {
      engine.signal("SIGSTOP");
      await pause(action.forMs, signal);
      engine.signal("SIGCONT");
      return "goes on";
    }
    const from = Date.now();
    await (action.kind === "engine-kill" ? engine.kill() : engine.stop());
    await pause(action.downMs, signal);
    await engine.start();
    return `back after ${Date.now() - from} ms`;
  }

  /** A role that stands behind it must say so, unless Kafka itself was away meanwhile. */
  async #openForeign(action: Extract<Action, { kind: "foreign" }>): Promise<string> {
    const { system, feed, foreign, complaints, signal } = this.#options;
    const subject = `${system.test.topics[action.topic].name}[${action.partition}]: `;
    const said = (): number => system.slots.reduce((sum, slot) => sum + slot.said("open_transaction", subject), 0);
    const before = said();
    const from = Date.now();
    const mustBeSaid = action.topic === "transactions" && action.openMs > LONG_OPEN_MS && action.ending !== "timeout";
    const done = foreign.run(action, feed.acknowledged, async (ms) => {
      await pause(ms, signal);
      while (mustBeSaid && said() === before && Date.now() - from < MUST_BE_SAID_MS && !signal.aborted)
        await pause(LOOK_EVERY_MS, signal);
    });
    const settled = done.then(
      () => {},
      () => {},
    );
    this.#foreign.add(settled);
    const { outcome, until } = await done.finally(() => this.#foreign.delete(settled));
    const undisturbed =
      outcome === action.ending &&
      this.#kafkaDisturbedAt < from &&
      !this.#busy.has("kafka") &&
      (this.#bombedAt.get(action.partition) ?? 0) < from - BOMB_TAKES_MS;
    if (mustBeSaid && until - from >= MUST_BE_SAID_MS && undisturbed && said() === before)
      complaints.add(
        "open transactions",
        `nobody has reported the one in ${subject} from ${new Date(from).toISOString()} to ` +
          `${new Date(until).toISOString()}`,
      );
    return `${outcome}, open for ${until - from} ms`;
  }

  /** Producers notice it, roles do; cards stay at home where they are. */
  async #addPartitions({ topic, more }: { topic: RecreatedTopic; more: number }): Promise<string> {
    const { system, feed, gate, signal } = this.#options;
    const spec = system.test.topics[topic];
    const partitions = spec.partitions + more;
    const admin = system.kafkaJs.admin();
    try {
      await gate.closedFor(() =>
        untilDone(signal, async () => {
          await admin.connect();
          await addPartitions(admin, spec.name, partitions);
          await admin.fetchTopicOffsets(spec.name);
        }),
      );
    } finally {
      await admin.disconnect().catch(() => {});
    }
    system.hasMorePartitions(spec, partitions);
    feed.state.partitions[topic] = partitions;
    feed.lookAgain();
    return `${spec.name} has ${partitions}`;
  }

  async #recreate({ topic, drain }: { topic: RecreatedTopic; drain: boolean }): Promise<string> {
    const { system, feed, gate, signal } = this.#options;
    this.#deleting = true;
    try {
      await Promise.all(this.#foreign);
      const former = await gate.closedFor(async () => {
        if (topic === "transactions") await this.#endReplays();
        // Where everything is to be read first, other faults go on meanwhile.
        const free = drain ? [] : system.slots.map(({ name }) => name).filter((name) => !this.#busy.has(name));
        for (const name of free) this.#busy.add(name);
        return recreate(system, feed, { topic, drain, free, signal }).finally(() => {
          for (const name of free) this.#busy.delete(name);
        });
      });
      if (former === null) return "left alone, since its readers did not come to its end in time";
      this.formers.push(former);
      return `${former.records.length} records, ${former.drained ? "all of them read" : "not all of them read"}`;
    } finally {
      this.#deleting = false;
    }
  }

  /**
   * The API sends dead letters again also when its caller has given up: what it sends between the last look at a topic
   * and its deletion would be seen by nobody.
   */
  async #endReplays(): Promise<void> {
    for (const { name } of this.#options.system.of("api")) await this.#restart(name);
  }

  /** Stops a copy when nothing else is done to it, and starts it again. @param module what it runs from then on */
  async #restart(name: string, module?: string): Promise<void> {
    const { system, signal } = this.#options;
    while (this.#busy.has(name)) await pause(200, signal);
    this.#busy.add(name);
    const slot = system.slot(name);
    await slot.stop();
    if (module !== undefined) slot.module = module;
    slot.start();
    this.#busy.delete(name);
  }

  #log(entry: object): void {
    appendFileSync(
      this.#options.logFile,
      `${JSON.stringify({ at: new Date().toISOString(), ms: Date.now() - this.#startedAt, ...entry })}\n`,
    );
  }
}

/** What an action disturbs: it is in one at a time. */
function targetOf(action: Action): string {
  if ("slot" in action) return action.slot;
  if ("engine" in action) return action.engine;
  if (action.kind === "foreign" || action.kind === "add-partitions")
    return `${action.kind} ${action.topic} ${"partition" in action ? action.partition : ""}`;
  return action.kind;
}

/** Also ends when the run is called off. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0 && !signal.aborted) await sleep(ms, undefined, { signal }).catch(() => {});
}
