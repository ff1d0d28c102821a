import { setImmediate as turn } from "node:timers/promises";

/** Work that can be put down between its pieces. */
export type Pieces<T> = Generator<undefined, T>;

/** So long other work of the process waits at most, but for a single piece, milliseconds. */
const SLICE_MS = 5;

/** Does all of the work at once. */
export function atOnce<T>(pieces: Pieces<T>): T {
  for (;;) {
    const { done, value } = pieces.next();
    if (done) return value;
  }
}

/** Does the work in slices, between which the event loop turns. */
export async function inSlices<T>(pieces: Pieces<T>): Promise<T> {
  for (let from = performance.now(); ;) {
    const { done, value } = pieces.next();
    if (done) return value;
    if (performance.now() - from < SLICE_MS) continue;
    await turn();
    from = performance.now();
  }
}
