import type { FastifyReply, FastifyRequest } from "fastify";
import { HttpProblem } from "../plugins/errors.js";

/** Uploads that are received at a time; each may take 73 MiB of memory. */
const MOST_RECEIVED = 4;
/** An upload that is slower is cut, once it has had this long. */
const LEAST_BYTES_A_SECOND = 32 * 1024;
const GRACE_MS = 5_000;
/** Where the places are taken, the slowest makes room for the next, if it is slower than this. */
const FAST_BYTES_A_SECOND = 512 * 1024;
const LOOK_EVERY_MS = 500;

interface Receiving {
  bytes: () => number;
  since: number;
  cut: (problem: HttpProblem) => void;
}

/** Keeps uploads that trickle in from taking the places of those that don't. */
export class UploadSlots {
  readonly #receiving = new Set<Receiving>();

  /**
   * Reads a request's body within a place of its own.
   *
   * @throws HttpProblem 503 `busy`, or 408 `upload_too_slow` when it was cut
   */
  async receive<T>(request: FastifyRequest, reply: FastifyReply, read: () => Promise<T>): Promise<T> {
    const { socket } = request.raw;
    const begun = socket.bytesRead;
    let cut: (problem: HttpProblem) => void = () => undefined;
    const cutting = new Promise<never>((_resolve, reject) => {
      cut = reject;
    });
    cutting.catch(() => undefined);
    const own: Receiving = { bytes: () => socket.bytesRead - begun, since: performance.now(), cut };
    this.#makeRoom();
    this.#receiving.add(own);
    const timer = setInterval(() => {
      if (ageOf(own) > GRACE_MS && rateOf(own) < LEAST_BYTES_A_SECOND) own.cut(tooSlow());
    }, LOOK_EVERY_MS);
    const reading = read();
    reading.catch(() => undefined);
    try {
      return await Promise.race([reading, cutting]);
    } catch (error) {
      // The rest is not read: the connection ends with the answer.
      if (error instanceof HttpProblem && error.code === "upload_too_slow")
        reply.raw.once("finish", () => socket.destroySoon());
      throw error;
    } finally {
      clearInterval(timer);
      this.#receiving.delete(own);
    }
  }

  #makeRoom(): void {
    if (this.#receiving.size < MOST_RECEIVED) return;
    const [slowest] = [...this.#receiving].sort((a, b) => rateOf(a) - rateOf(b));
    if (ageOf(slowest) < 2 * LOOK_EVERY_MS || rateOf(slowest) > FAST_BYTES_A_SECOND)
      throw new HttpProblem("busy", `${this.#receiving.size} models are being uploaded`, {
        headers: { "retry-after": "5", connection: "close" },
      });
    slowest.cut(tooSlow());
    this.#receiving.delete(slowest);
  }
}

function ageOf({ since }: Receiving): number {
  return performance.now() - since;
}

function rateOf(upload: Receiving): number {
  return upload.bytes() / Math.max(0.001, ageOf(upload) / 1_000);
}

function tooSlow(): HttpProblem {
  return new HttpProblem(
    "upload_too_slow",
    `the upload came at less than ${LEAST_BYTES_A_SECOND / 1024} KiB a second, or others waited for its ` +
      "place: send it faster",
    { headers: { connection: "close" } },
  );
}
