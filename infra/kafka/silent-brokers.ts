/** Remembers which brokers, by `host:port`, did not answer when they were last asked. */
export class SilentBrokers {
  readonly #silent = new Set<string>();

  note(broker: string, answered: boolean): void {
    if (!answered) this.#silent.add(broker);
    else if (this.#silent.size > 0) this.#silent.delete(broker);
  }

  /** Whether any of them is silent. */
  get any(): boolean {
    return this.#silent.size > 0;
  }

  has(broker: string): boolean {
    return this.#silent.has(broker);
  }

  /** Brokers that answered, or were never asked, come first; otherwise the order stays. */
  sort<T>(brokers: readonly T[], nameOf: (broker: T) => string): T[] {
    if (this.#silent.size === 0) return [...brokers];
    return [...brokers].sort((a, b) => Number(this.has(nameOf(a))) - Number(this.has(nameOf(b))));
  }
}
