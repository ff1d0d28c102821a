import { FraudstreamError } from "../../schemas/errors.js";

/** Half as much again: copying stays rare, and no more than a third is empty. */
export function grownCapacity(capacity: number): number {
  return Math.max(64, Math.ceil(capacity * 1.5));
}

/** A column with more room, its values at the same places. */
export function grown<T extends Uint32Array | Int32Array | Float64Array>(column: T, length: number): T {
  const larger = new (column.constructor as new (length: number) => T)(length);
  larger.set(column);
  return larger;
}

/** @throws FraudstreamError `snapshot_unusable` */
export function bytesOf(sections: ReadonlyMap<string, ArrayBufferView>, name: string): Uint8Array {
  const view = sections.get(name);
  if (view === undefined) throw new FraudstreamError("snapshot_unusable", `the snapshot has no section ${name}`);
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** A copy of a section's numbers, wherever they lay in memory. */
export function uint32Of(sections: ReadonlyMap<string, ArrayBufferView>, name: string): Uint32Array<ArrayBuffer> {
  return new Uint32Array(bytesOf(sections, name).slice().buffer);
}

/** As `uint32Of`. */
export function int32Of(sections: ReadonlyMap<string, ArrayBufferView>, name: string): Int32Array<ArrayBuffer> {
  return new Int32Array(bytesOf(sections, name).slice().buffer);
}

/** As `uint32Of`. */
export function float64Of(sections: ReadonlyMap<string, ArrayBufferView>, name: string): Float64Array<ArrayBuffer> {
  return new Float64Array(bytesOf(sections, name).slice().buffer);
}
