import { FraudstreamError } from "../../schemas/errors.js";

type Chunks = AsyncIterable<Buffer>;

/** The size of what follows, and its signature, where uploads are signed piece by piece. */
const HEAD = /^([\da-f]{1,12})(;chunk-signature=[\da-f]{64})?$/i;
const MOST_HEAD = 128;
const LINE_END = "\r\n";

/**
 * Takes off the frames that S3's clients put around the pieces of what they upload (`aws-chunked`), and that some
 * stores keep. A body that does not begin with a frame is left as it is: most stores take off the frames and keep the
 * name of the coding.
 *
 * @throws FraudstreamError `download_broken` where a frame is missing or cut off
 */
export async function* withoutAwsChunks(chunks: Chunks): AsyncGenerator<Buffer> {
  const reader = new ChunkReader(chunks);
  const first = sizeOf(await reader.line());
  if (first === null) {
    yield* reader.rest();
    return;
  }
  reader.passLine();
  for (let size = first; size > 0;) {
    yield* reader.take(size);
    if (!(await reader.endsLine())) throw broken();
    const next = sizeOf(await reader.line());
    if (next === null) throw broken();
    reader.passLine();
    size = next;
  }
  // Checksums and their signature may follow the last, empty frame.
}

function sizeOf(line: string | null): number | null {
  const size = line === null ? undefined : HEAD.exec(line)?.[1];
  return size === undefined ? null : Number.parseInt(size, 16);
}

function broken(): FraudstreamError {
  return new FraudstreamError(
    "download_broken",
    "the body is not what its encoding aws-chunked says: a frame is broken",
  );
}

class ChunkReader {
  readonly #iterator: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);
  #lineBytes = 0;

  constructor(chunks: Chunks) {
    this.#iterator = chunks[Symbol.asyncIterator]();
  }

  /** The line that begins here, which `passLine` passes; null: there is none that is short. */
  async line(): Promise<string | null> {
    while (!this.#held.includes(LINE_END) && this.#held.length < MOST_HEAD && (await this.#more()));
    const end = this.#held.subarray(0, MOST_HEAD).indexOf(LINE_END);
    this.#lineBytes = end + LINE_END.length;
    return end < 0 ? null : this.#held.toString("latin1", 0, end);
  }

  passLine(): void {
    this.#held = this.#held.subarray(this.#lineBytes);
  }

  async *take(bytes: number): AsyncGenerator<Buffer> {
    for (let left = bytes; left > 0;) {
      if (this.#held.length === 0 && !(await this.#more())) throw broken();
      const piece = this.#held.subarray(0, left);
      this.#held = this.#held.subarray(piece.length);
      left -= piece.length;
      yield piece;
    }
  }

  /** Passes a line's end. */
  async endsLine(): Promise<boolean> {
    while (this.#held.length < LINE_END.length && (await this.#more()));
    const ends = this.#held.toString("latin1", 0, LINE_END.length) === LINE_END;
    this.#held = this.#held.subarray(LINE_END.length);
    return ends;
  }

  async *rest(): AsyncGenerator<Buffer> {
    do {
      if (this.#held.length > 0) yield this.#held;
      this.#held = Buffer.alloc(0);
    } while (await this.#more());
  }

  async #more(): Promise<boolean> {
    const next = await this.#iterator.next();
    if (next.done === true) return false;
    this.#held = this.#held.length === 0 ? next.value : Buffer.concat([this.#held, next.value]);
    return true;
  }
}
