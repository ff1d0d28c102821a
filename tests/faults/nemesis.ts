import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../../schemas/errors.js";
import type { Complaints } from "./complaints.js";
import type { Engine } from "./engines.js";
import type { Feed } from "./feed.js";
import type { Operators } from "./operators.js";
import type { Action, Planned } from "./plan.js";
import type { System } from "./system.js";
import { CODECS, pack, packedBatch, publishBatch, recordPieces } from "../support/bombs.js";

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
    const target = "slot" in action ? action.slot : "engine" in action ? action.engine : action.kind;
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
    const { system, operators, feed, signal } = this.#options;
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
        if (exit === "hung" || (exit !== null && exit.signal !== "SIGTERM")) this.#options.complaints.addExit(slot, exit);
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
        proxy.mode = "delayMs" in action ? { kind: "slow", delayMs: action.delayMs, bytesPerSecond: action.bytesPerSecond } : action.kind === "cut" ? { kind: "down" } : { kind: "silent" };
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
      case "engine-pause": return this.#disturb(system[action.engine], action);
      case "deploy": return operators.deploy(action.model, action);
      case "train": return operators.train(action.seed);
      case "cancel": return operators.cancel();
      case "bomb": {
        const batch = packedBatch(CODECS.gzip, pack("gzip", recordPieces([{ key: Buffer.from("bomb"), value: { zeros: action.megabytes * 1e6 } }])), 1);
        const { cluster, topics } = system.test;
        // Whether or not it is acknowledged: the ledger is what the topic has.
        return publishBatch(cluster, topics.transactions.name, action.partition % topics.transactions.partitions, batch).then((offset) => `at ${offset}`, (error: unknown) => `not acknowledged: ${messageOf(error)}`);
      }
      case "replay": return operators.replay(action.code);
      case "upgrade": {
        for (const name of action.slots) {
          while (this.#busy.has(name)) await pause(200, signal);
          this.#busy.add(name);
          const slot = system.slot(name);
          await slot.stop();
          slot.module = "tests/faults/next-version";
          slot.start();
          this.#busy.delete(name);
          feed.upgraded = true;
          await pause(action.everyMs, signal);
        }
        return;
      }
    }
  }

  async #disturb(engine: Engine, action: Extract<Action, { engine: string; kind: "engine-kill" | "engine-restart" | "engine-pause" }>): Promise<string> {
    const { signal } = this.#options;
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

  #log(entry: object): void {
    appendFileSync(this.#options.logFile, `${JSON.stringify({ at: new Date().toISOString(), ms: Date.now() - this.#startedAt, ...entry })}\n`);
  }
}

/** Also ends when the run is called off. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0 && !signal.aborted) await sleep(ms, undefined, { signal }).catch(() => {});
}
