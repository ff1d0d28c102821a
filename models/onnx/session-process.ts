/**
 * The process in which one model of another author runs for a scoring worker (`GuardedSession` starts it): it may hang,
 * use its memory up or die, and nothing else lives in it. Requests come on standard input, answers go to standard
 * output.
 */
import { Worker } from "node:worker_threads";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { FAILED, Frames, LOAD, SCORED, frameOf } from "./frames.js";
import { ModelSession, type ModelIo } from "./session.js";

/** A model that hangs blocks this thread: another thread ends the process when its parent is gone. */
const WATCHER = `
  const parent = require("node:worker_threads").workerData;
  setInterval(() => { if (process.ppid !== parent) process.kill(process.pid, "SIGKILL"); }, 1000);
`;

let session: ModelSession | null = null;
let features = 0;

/** @param kind LOAD, or the number of rows */
async function answer(kind: number, content: Buffer): Promise<Uint8Array[]> {
  try {
    if (kind === LOAD) {
      const length = content.readUInt32LE(0);
      const io = JSON.parse(content.toString("utf8", 4, 4 + length)) as ModelIo;
      features = io.features;
      session = await ModelSession.load(content.subarray(4 + length), io);
      return frameOf(SCORED, new Uint8Array(0));
    }
    if (session === null) throw new FraudstreamError("model_failed", "no model was loaded");
    // A view needs an address that is a multiple of four.
    const values = new Float32Array(kind * features);
    new Uint8Array(values.buffer).set(content);
    const scores = await session.run(values, kind);
    return frameOf(SCORED, new Uint8Array(scores.buffer, scores.byteOffset, scores.byteLength));
  } catch (error) {
    const code = error instanceof FraudstreamError ? error.code : "model_failed";
    return frameOf(FAILED, Buffer.from(JSON.stringify({ code, message: messageOf(error) })));
  }
}

// Ctrl-C reaches every process of a terminal; the worker ends this one when it needs it no more.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => undefined);
// Told by the parent itself: it may be gone before the watcher looks.
new Worker(WATCHER, {
  eval: true,
  workerData: Number(process.argv[2]),
  resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 },
});
const frames = new Frames();
let turn = Promise.resolve();
process.stdin.on("data", (chunk: Buffer) => {
  for (const { kind, content } of frames.add(chunk)) {
    turn = turn.then(async () => {
      for (const part of await answer(kind, content)) process.stdout.write(part);
    });
  }
});
process.stdin.on("end", () => process.exit(0));
