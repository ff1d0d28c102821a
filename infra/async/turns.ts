/** Does one thing after the other, in the order in which they were asked for. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Does `work` when all before it has ended, however it ended. @returns what it returns @throws what it throws */
  take<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  /** Resolves when all that was asked for so far has ended, however it ended. */
  async over(): Promise<void> {
    await this.#last;
  }
}
