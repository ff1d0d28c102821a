import type { Section } from "../../infra/snapshots.js";
import { grown } from "./columns.js";
import { EntityTable } from "./entity-table.js";

/** Entities that are kept as long as something holds them. */
export class CountedEntities {
  #table = new EntityTable();
  #holders = new Int32Array(0);

  /** Every index is below it. */
  get extent(): number {
    return this.#table.extent;
  }

  get size(): number {
    return this.#table.size;
  }

  get bytes(): number {
    return this.#table.bytes + this.#holders.byteLength;
  }

  /** The index of an id, held once more. */
  take(bytes: Buffer, at: number, length: number): number {
    const index = this.#table.intern(bytes, at, length);
    this.hold(index);
    return index;
  }

  hold(index: number): void {
    if (index >= this.#holders.length)
      this.#holders = grown(this.#holders, Math.max(64, Math.ceil(this.#table.extent * 1.5)));
    this.#holders[index]++;
  }

  /** Held once less; at zero its index is free for another. */
  release(index: number): void {
    if (--this.#holders[index] === 0) this.#table.remove(index);
  }

  id(index: number): Buffer {
    return this.#table.id(index);
  }

  sections(prefix: string): Section[] {
    return this.#table.sections(prefix);
  }

  /**
   * Nothing is held yet: whoever restores it holds each entity as often as before. @throws FraudstreamError
   * `snapshot_unusable`
   */
  static restore(prefix: string, sections: ReadonlyMap<string, ArrayBufferView>): CountedEntities {
    const entities = new CountedEntities();
    entities.#table = EntityTable.restore(prefix, sections);
    return entities;
  }
}
