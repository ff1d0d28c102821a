import type { Exit, Slot } from "./slot.js";

const MOST_OF_A_KIND = 4;

/** Everything that is wrong: how often each kind, and the first few of each. */
export class Complaints {
  readonly #kinds = new Map<string, { count: number; first: string[] }>();

  add(kind: string, text: string): void {
    const found = this.#kinds.get(kind) ?? { count: 0, first: [] };
    found.count += 1;
    if (found.first.length < MOST_OF_A_KIND) found.first.push(text);
    this.#kinds.set(kind, found);
  }

  /** Whoever was asked to stop ends with 0. */
  addExit(slot: Slot, exit: Exit | "hung" | null): void {
    if (exit === "hung" || exit?.code !== 0)
      this.add("stopping", `${slot.name} ended with ${JSON.stringify(exit)}: ${slot.tail(3).join(" | ")}`);
  }

  /** One line a kind; none: all is well. */
  get lines(): string[] {
    return [...this.#kinds].map(([kind, { count, first }]) => `${kind} (${count}): ${first.join("; ")}`);
  }
}
