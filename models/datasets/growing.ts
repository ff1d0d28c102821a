/** A typed array that grows by doubling. */
export class Growing<T extends Float64Array | Int16Array | Int32Array | Uint8Array> {
  readonly #make: new (length: number) => T;
  #values: T;
  length = 0;

  constructor(make: new (length: number) => T) {
    this.#make = make;
    this.#values = new make(1024);
  }

  push(value: number): void {
    if (this.length === this.#values.length) {
      const larger = new this.#make(this.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.length++] = value;
  }

  at(index: number): number {
    return this.#values[index];
  }

  /** The values in the given order of rows; null: as they came. */
  take(order: Uint32Array | null): T {
    if (order === null) return this.#values.slice(0, this.length) as T;
    const taken = new this.#make(this.length);
    for (let row = 0; row < order.length; row++) taken[row] = this.#values[order[row]];
    return taken;
  }
}
