/**
 * The process that looks at one uploaded model: `checkInProcess` starts it under limits, sends it a `CheckRequest`, and
 * gets one `CheckAnswer`. It may die of the model; nothing else lives in it.
 */
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import { checkModel, type CheckRequest } from "./check-model.js";
import type { CheckAnswer } from "./check-in-process.js";

function answer(message: CheckAnswer): void {
  process.send?.(message, () => process.exit(0));
}

// The parent process is gone.
process.on("disconnect", () => process.exit(0));
process.once("message", (request: CheckRequest) => {
  checkModel(request).then(
    (checked) => answer({ checked }),
    (error: unknown) =>
      answer({
        refused: { code: error instanceof FraudstreamError ? error.code : "model_failed", message: messageOf(error) },
      }),
  );
});
