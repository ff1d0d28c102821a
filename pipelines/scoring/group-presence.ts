import type { Logger } from "../../infra/logging.js";

/** Joins a group with `start` and leaves it with `stop`; a new one each time. */
export interface Member {
  start(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Keeps a worker a member of its group only while it can work. Otherwise its share of the partitions would be withheld
 * from workers that can.
 */
export class GroupPresence {
  readonly #log: Logger;
  readonly #onFailure: (error: unknown) => void;
  #open: (() => Member) | null = null;
  #member: Member | null = null;
  #wanted = false;
  #stopped = false;
  #changing: Promise<void> = Promise.resolve();

  constructor(log: Logger, onFailure: (error: unknown) => void) {
    this.#log = log;
    this.#onFailure = onFailure;
  }

  /** From now on the worker joins when it is wanted. @returns once it has joined, if it is wanted now */
  async open(open: () => Member, wanted: boolean): Promise<void> {
    this.#open = open;
    this.#wanted = wanted;
    if (!wanted) this.#log.warn("no deployment can be loaded: the group is not joined until one can");
    await (this.#changing = this.#change());
  }

  /** Joins or leaves, unless that is already done. */
  set(wanted: boolean): void {
    if (this.#wanted === wanted || this.#open === null) return;
    this.#wanted = wanted;
    this.#changing = this.#changing.then(() => this.#change()).catch((error: unknown) => this.#onFailure(error));
  }

  /** Leaves for good. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wanted = false;
    // Work under way, including a start that failed, has its own caller.
    await this.#changing.catch(() => undefined);
    await this.#member?.stop();
    this.#member = null;
  }

  async #change(): Promise<void> {
    if (this.#open === null || this.#stopped || this.#wanted === (this.#member !== null)) return;
    if (this.#wanted) {
      this.#member = this.#open();
      await this.#member.start();
      return;
    }
    this.#log.warn("no deployment works here: the group is left, so that other workers get the partitions");
    const member = this.#member;
    this.#member = null;
    await member?.stop();
  }
}
