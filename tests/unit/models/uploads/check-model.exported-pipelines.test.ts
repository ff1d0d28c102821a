import { expect, it } from "vitest";
import { checkModel } from "../../../../models/uploads/check-model.js";
import { samplesOf } from "../../../../models/uploads/samples.js";
import { uploadedColumns } from "../../../../models/uploads/upload.js";
import { exportedPipeline, pipelineNames } from "../../../support/exported-pipelines.js";

/** Rounding makes its trees differ, which compare-scores.test.ts has. */
const TIES = "scaled-forest";

it.each(pipelineNames().filter((name) => name !== TIES))(
  "%s scores 10,000 rows with missing and unseen values as its library does",
  async (name) => {
    const { manifest, onnx, samples } = exportedPipeline(name);
    const columns = uploadedColumns(manifest, samples);
    const checked = await checkModel({
      onnx,
      words: manifest,
      columns,
      samples: samplesOf(samples, columns),
      tolerance: manifest.tolerance,
    });
    expect(checked.greatestDifference).toBeLessThan(manifest.tolerance?.difference ?? 2e-6);
    expect(checked.differingRows).toBe(0);
    // What an imputer makes of missing texts is no category of any payment.
    expect(checked.warnings.filter((warning) => !warning.includes('"none"'))).toEqual([]);
  },
);
