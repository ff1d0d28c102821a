import { spawn, type ChildProcess } from "node:child_process";
import type { ErrorCode } from "../../schemas/error-codes.js";
import { FraudstreamError } from "../../schemas/errors.js";
import { FAILED, Frames, LOAD, frameOf, type Frame } from "./frames.js";
import { limitedProcess, reservedByNode } from "./limited-process.js";
import type { ModelIo } from "./session.js";

export interface SessionLimits {
  /** Of one run, milliseconds. @default five seconds */
  timeoutMs?: number;
  /** That the model's process may write to beyond what Node needs, bytes. @default 1 GiB */
  memoryBytes?: number;
}

/** A run that didn't come to its end; the next one has a new process. */
export const HUNG = "model_hung";
export const DIED = "model_died";

const TIMEOUT_MS = 5_000;
const MEMORY_BYTES = 1024 ** 3;
/** Of loading and optimising a graph, on a busy machine. */
const LOAD_MS = 60_000;
/** The time of a run is looked at in steps: one during which this process stood still counts no more than this. */
const STEP_MS = 100;
const LONGEST_STEP_MS = 1_000;
const HEAP_MB = 256;
const STDERR_CHARACTERS = 300;

interface Request {
  kind: number;
  content: Uint8Array[];
  timeoutMs: number;
  resolve: (content: Buffer) => void;
  reject: (error: unknown) => void;
}

/**
 * An ONNX model that runs in a process of its own, bounded in time and memory. onnxruntime blocks its thread while it
 * runs and can't be interrupted, so that only the end of a process stops a model that hangs.
 */
export class GuardedSession {
  readonly #onnx: Uint8Array;
  readonly #io: ModelIo;
  readonly #timeoutMs: number;
  readonly #memoryBytes: number;
  readonly #reserved: number;
  #child: ChildProcess | null = null;
  /** The first is with the process. */
  readonly #requests: Request[] = [];
  #released = false;

  private constructor(
    onnx: Uint8Array,
    io: ModelIo,
    { timeoutMs = TIMEOUT_MS, memoryBytes = MEMORY_BYTES }: SessionLimits,
    reserved: number,
  ) {
    this.#onnx = onnx;
    this.#io = io;
    this.#timeoutMs = timeoutMs;
    this.#memoryBytes = memoryBytes;
    this.#reserved = reserved;
  }

  /** @throws FraudstreamError as `ModelSession.load`; `model_hung`, `model_died` */
  static async load(onnx: Uint8Array, io: ModelIo, limits: SessionLimits = {}): Promise<GuardedSession> {
    const session = new GuardedSession(onnx, io, limits, await reservedByNode(2));
    try {
      // Loading tries the model on one row, and `run` loads it where it isn't.
      await session.#start();
    } catch (error) {
      await session.release();
      throw error;
    }
    return session;
  }

  /**
   * @param features row by row; not to be changed before the answer
   * @throws FraudstreamError as `ModelSession.run`; `model_hung` and `model_died`, after which the next run has a new
   *   process
   */
  async run(features: Float32Array, rows: number): Promise<Float32Array> {
    const width = this.#io.features;
    if (rows === 0) return new Float32Array();
    if (features.length < rows * width)
      throw new FraudstreamError("model_shape", `${features.length} values are not ${rows} rows of ${width} features`);
    if (this.#released) throw new FraudstreamError("model_failed", "the model was released");
    if (this.#child === null) await this.#start();
    const answer = await this.#ask(
      rows,
      [new Uint8Array(features.buffer, features.byteOffset, 4 * rows * width)],
      this.#timeoutMs,
    );
    const scores = new Float32Array(rows);
    new Uint8Array(scores.buffer).set(answer.subarray(0, 4 * rows));
    return scores;
  }

  /** The session is of no use afterwards. */
  release(): Promise<void> {
    this.#released = true;
    this.#end(new FraudstreamError("model_failed", "the model was released"));
    return Promise.resolve();
  }

  #starting: Promise<unknown> | null = null;

  /** Starts the process and loads the model there; callers at the same time share it. */
  async #start(): Promise<void> {
    if (this.#starting === null) {
      this.#spawn();
      const io = Buffer.from(JSON.stringify(this.#io));
      const length = Buffer.alloc(4);
      length.writeUInt32LE(io.length);
      this.#starting = this.#ask(LOAD, [length, io, this.#onnx], LOAD_MS).finally(() => (this.#starting = null));
    }
    await this.#starting;
  }

  #spawn(): void {
    const { command, args, options } = limitedProcess("models/onnx/session-process", [String(process.pid)], {
      memoryBytes: this.#memoryBytes,
      reserved: this.#reserved,
      heapMb: HEAP_MB,
    });
    const child = spawn(command, args, { ...options, stdio: ["pipe", "pipe", "pipe"] });
    this.#child = child;
    const frames = new Frames();
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr = (stderr + text).slice(-STDERR_CHARACTERS)));
    child.stdout.on("data", (chunk: Buffer) => {
      if (this.#child === child) for (const frame of frames.add(chunk)) this.#answered(frame);
    });
    // A write to a process that has died fails; "close" reports it.
    child.stdin.on("error", () => undefined);
    child.on(
      "error",
      (cause) =>
        this.#child === child &&
        this.#end(new FraudstreamError(DIED, `the model's process could not be started: ${cause.message}`, { cause })),
    );
    child.on("close", (code, signal) => {
      if (this.#child !== child) return;
      this.#end(
        new FraudstreamError(
          DIED,
          `the process of the model ended (${signal ?? `exit code ${code}`}), with ` +
            `${Math.floor(this.#memoryBytes / 1024 ** 2)} MiB of memory`,
          { cause: new Error(stderr) },
        ),
      );
    });
  }

  #ask(kind: number, content: Uint8Array[], timeoutMs: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#requests.push({ kind, content, timeoutMs, resolve, reject });
      if (this.#requests.length === 1) this.#send();
    });
  }

  /** Gives the first request to the process. */
  #send(): void {
    const stdin = this.#child?.stdin;
    const [request] = this.#requests as (Request | undefined)[];
    if (request === undefined || stdin === undefined || stdin === null) return;
    stdin.cork();
    for (const part of frameOf(request.kind, ...request.content)) stdin.write(part);
    stdin.uncork();
    this.#watch(request, request.timeoutMs);
  }

  #timer: NodeJS.Timeout | undefined;

  #watch(request: Request, leftMs: number): void {
    const from = performance.now();
    this.#timer = setTimeout(
      () => {
        const left = leftMs - Math.min(performance.now() - from, LONGEST_STEP_MS);
        if (left > 0) this.#watch(request, left);
        else this.#end(new FraudstreamError(HUNG, `the model gave no answer within ${request.timeoutMs / 1_000} s`));
      },
      Math.min(STEP_MS, leftMs),
    );
  }

  #answered({ kind, content }: Frame): void {
    clearTimeout(this.#timer);
    const request = this.#requests.shift();
    if (kind === FAILED) {
      const { code, message } = JSON.parse(content.toString()) as { code: ErrorCode; message: string };
      request?.reject(new FraudstreamError(code, message));
    } else request?.resolve(content);
    this.#send();
  }

  /** Ends the process. Of the requests the first one is at fault; the others are tried again by a new process. */
  #end(error: FraudstreamError): void {
    clearTimeout(this.#timer);
    const child = this.#child;
    this.#child = null;
    child?.kill("SIGKILL");
    const [first, ...others] = this.#requests.splice(0);
    (first as Request | undefined)?.reject(error);
    if (others.length === 0) return;
    if (this.#released || first.kind === LOAD) for (const { reject } of others) reject(error);
    else
      this.#start().then(
        () => this.#requestAgain(others),
        (failure: unknown) => others.forEach(({ reject }) => reject(failure)),
      );
  }

  #requestAgain(requests: readonly Request[]): void {
    const idle = this.#requests.length === 0;
    this.#requests.push(...requests);
    if (idle) this.#send();
  }
}
