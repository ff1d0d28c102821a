import { setTimeout as sleep } from "node:timers/promises";

const LOOK_EVERY_MS = 10;

/** What everybody who writes to the topics passes through, so that traffic can be made to stand still. */
export class Gate {
  #inside = 0;
  #closed = false;

  /** Does the work once the gate is open. */
  async pass<T>(work: () => Promise<T>): Promise<T> {
    while (this.#closed) await sleep(LOOK_EVERY_MS);
    this.#inside += 1;
    try {
      return await work();
    } finally {
      this.#inside -= 1;
    }
  }

  /** Does the work while nobody is inside and nobody comes in; one such work after the other. */
  async closedFor<T>(work: () => Promise<T>): Promise<T> {
    while (this.#closed) await sleep(LOOK_EVERY_MS);
    this.#closed = true;
    try {
      while (this.#inside > 0) await sleep(LOOK_EVERY_MS);
      return await work();
    } finally {
      this.#closed = false;
    }
  }
}
