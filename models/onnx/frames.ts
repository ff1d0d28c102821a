/** The messages between a scoring worker and the process of a model: a kind, a length, and so many bytes. */
export interface Frame {
  kind: number;
  content: Buffer;
}

/**
 * Kinds of a request: to load a model, or else the number of rows to score. Kinds of an answer: scored (or loaded),
 * failed.
 */
export const LOAD = 0xffff_ffff;
export const SCORED = 0;
export const FAILED = 1;

const HEAD_BYTES = 8;

/** A frame in the parts that are to be written one after the other. */
export function frameOf(kind: number, ...content: Uint8Array[]): Uint8Array[] {
  const head = Buffer.allocUnsafe(HEAD_BYTES);
  head.writeUInt32LE(kind, 0);
  head.writeUInt32LE(
    content.reduce((sum, { byteLength }) => sum + byteLength, 0),
    4,
  );
  return [head, ...content];
}

/** Puts the chunks of a pipe together to frames. */
export class Frames {
  #chunks: Buffer[] = [];
  #length = 0;

  /** @returns the frames that are whole with this chunk */
  add(chunk: Buffer): Frame[] {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const whole: Frame[] = [];
    for (;;) {
      if (this.#length < HEAD_BYTES) return whole;
      if (this.#chunks[0].length < HEAD_BYTES) this.#join();
      const end = HEAD_BYTES + this.#chunks[0].readUInt32LE(4);
      if (this.#length < end) return whole;
      if (this.#chunks[0].length < end) this.#join();
      const [first] = this.#chunks;
      whole.push({ kind: first.readUInt32LE(0), content: first.subarray(HEAD_BYTES, end) });
      this.#length -= end;
      if (first.length === end) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(end);
    }
  }

  #join(): void {
    this.#chunks = [Buffer.concat(this.#chunks, this.#length)];
  }
}
