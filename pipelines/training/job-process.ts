import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { FromJob, Incumbent, JobSpec, ToJob } from "./job-messages.js";
import { runJob } from "./run-job.js";

/**
 * The process of one training job. The trainer that started it kills it to cancel the job; when the trainer is gone,
 * this process ends by itself. Its result goes to the trainer, which alone decides what becomes of it.
 */
let answer: (incumbent: Incumbent) => void = () => {};

function send(message: FromJob): Promise<void> {
  return new Promise((sent) => process.send?.(message, () => sent()));
}

async function run(spec: JobSpec): Promise<void> {
  try {
    const result = await runJob(spec, {
      report: (progress) => void send({ kind: "progress", ...progress }),
      incumbent: () => {
        const answered = new Promise<Incumbent>((resolve) => (answer = resolve));
        void send({ kind: "incumbent?" });
        return answered;
      },
    });
    await send({ kind: "built", result });
  } catch (error) {
    await send({
      kind: "failed",
      code: error instanceof FraudstreamError ? error.code : "training_failed",
      message: messageOf(error),
    });
  }
  process.disconnect();
}

process.on("disconnect", () => process.exit());
process.on("message", (message: ToJob) => {
  if (message.kind === "start") void run(message.spec);
  else answer(message.incumbent);
});
// Ctrl-C in a terminal, or a stop of the whole process group, reaches the trainer, too: it decides.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
