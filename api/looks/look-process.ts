import { join } from "node:path";
import { addressPolicy } from "../../infra/download/addresses.js";
import { download } from "../../infra/download/download.js";
import { inRequestWords } from "../../models/control/request-words.js";
import { lookAt } from "../../models/datasets/look.js";
import { readCsv } from "../../models/datasets/read-csv.js";
import { toReadingOptions } from "../../models/datasets/reading-request.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { FromLook, LookSpec } from "./look-child.js";

/** The process of one look: reading millions of rows delays no other request, and it is killed with its request. */
function send(message: FromLook): Promise<void> {
  return new Promise((sent) => process.send?.(message, () => sent()));
}

async function run({ request, folder, limits }: LookSpec): Promise<void> {
  const file = join(folder, "data");
  try {
    const { allowPrivate, maxBytes, maxUnpackedBytes, maxRows, stallMs, deadlineMs } = limits;
    await download(request.dataset, file, { policy: addressPolicy(allowPrivate), maxBytes, stallMs, deadlineMs });
    const dataset = await readCsv(file, {
      ...toReadingOptions(request),
      limits: { bytes: maxUnpackedBytes, rows: maxRows },
    });
    const look = lookAt(dataset);
    await send({
      kind: "look",
      look: { ...look, notes: look.notes.map(inRequestWords), options: look.options.map(inRequestWords) },
    });
  } catch (error) {
    await send({
      kind: "failed",
      code: error instanceof FraudstreamError ? error.code : "file_unreadable",
      // The requester knows the file by its link, not by its local path.
      message: inRequestWords(messageOf(error).replaceAll(file, "the file")),
    });
  }
  process.disconnect();
}

process.on("disconnect", () => process.exit());
process.on("message", (spec: LookSpec) => void run(spec));
