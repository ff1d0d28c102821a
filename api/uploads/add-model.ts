import { saveNextVersion, type Artifact } from "../../models/artifacts.js";
import { registerModel } from "../../models/control/decisions.js";
import type { CheckedModel } from "../../models/uploads/check-model.js";
import { TOLERANCE } from "../../models/onnx/verify.js";
import { checkInProcess } from "../../models/uploads/check-in-process.js";
import type { UploadedManifest } from "../../models/uploads/upload.js";
import { manifestOfUpload, uploadedColumns } from "../../models/uploads/upload.js";
import { samplesOf } from "../../models/uploads/samples.js";
import { errorRow } from "../../schemas/error-codes.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import { badFields } from "../plugins/bad-fields.js";
import { HttpProblem } from "../plugins/errors.js";
import { depthOf } from "../plugins/json-body.js";
import type { ReceivedUpload } from "./receive-upload.js";

/** Tells whether a value fits `UploadedManifest`, and what is wrong with it. */
export type ManifestValidator = ((value: unknown) => unknown) & { errors?: Parameters<typeof badFields>[0] | null };

const MOST_DEPTH = 32;
/** Another process may register a version whose artifact is gone. */
const MOST_TRIES = 5;

/**
 * Checks an uploaded model, stores it under the next version of its name and registers it.
 *
 * @throws HttpProblem 400 and 422, with a code of its own for each cause
 */
export async function addModel(
  context: ApiContext,
  who: string,
  upload: ReceivedUpload,
  validator: ManifestValidator,
  signal: AbortSignal,
): Promise<{ artifact: Artifact; checked: CheckedModel; samples: number }> {
  const manifest = manifestFrom(upload.manifest, validator);
  const { columns, checked, samples } = await refusing(context, async () => {
    const json = jsonOf(upload.samples, "samples");
    const columns = uploadedColumns(manifest, json);
    const rows = samplesOf(json, columns);
    return {
      columns,
      samples: rows.rows,
      checked: await checkInProcess(
        {
          onnx: upload.model,
          words: manifest,
          columns,
          samples: rows,
          tolerance: manifest.tolerance,
        },
        {},
        signal,
      ),
    };
  });
  const check = {
    rows: samples,
    greatest_difference: checked.greatestDifference,
    differing_rows: checked.differingRows,
    tolerance: { differing_rows: 0, difference: TOLERANCE, ...manifest.tolerance },
  };
  const built = { manifest: manifestOfUpload(manifest, columns, checked, check), onnx: checked.onnx };
  for (let tries = 1; ; tries++) {
    const artifact = await saveNextVersion(context.config.artifacts, manifest.name, built);
    try {
      await context.produce((producer) =>
        registerModel(
          context.control,
          { who, producer },
          { model: artifact.manifest.model, manifestSha256: artifact.manifestSha256 },
        ),
      );
      return { artifact, checked, samples };
    } catch (error) {
      if (!(error instanceof FraudstreamError) || error.code !== "conflict" || tries === MOST_TRIES) throw error;
    }
  }
}

function manifestFrom(bytes: Buffer, validator: ManifestValidator): UploadedManifest {
  const value = jsonOf(bytes, "manifest");
  if (validator(value) === true) return value as UploadedManifest;
  const errors = badFields(validator.errors ?? [], "body").map((bad) => ({
    ...bad,
    field: bad.field === "" ? "manifest" : `manifest.${bad.field}`,
  }));
  throw new HttpProblem(
    "manifest_invalid",
    errors
      .map(({ field, message }) => `${field}: ${message}`)
      .slice(0, 5)
      .join("; "),
    { errors },
  );
}

/** @throws HttpProblem `manifest_invalid`, `samples_invalid` */
function jsonOf(bytes: Buffer, part: "manifest" | "samples"): unknown {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (depthOf(text) > MOST_DEPTH) throw new Error("too deep");
    return JSON.parse(text);
  } catch {
    throw new HttpProblem(
      `${part}_invalid`,
      `the ${part} part is not JSON in UTF-8 (JSON has no NaN and no Infinity: write null where a value is missing)`,
    );
  }
}

/** Refusing a model is not an error of ours. */
async function refusing<T>({ log }: ApiContext, check: () => Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof FraudstreamError)) throw error;
    if (error.code === "model_died") log.warn({ err: error }, "an uploaded model crashed the process that checked it");
    throw new HttpProblem(error.code, error.message, { status: errorRow(error.code)?.status ?? 422, cause: error });
  }
}
