/**
 * The scoring role of "the next version": `node next-version.js scoring`. It is this version's code, but its
 * predictions have one more optional field under a schema id of their own, as after a release that adds one: this
 * version's sinks and APIs, which run beside it, must read both.
 */
import { Schemas } from "../../infra/kafka/schemas.js";
import type { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { PredictionEncoder } from "../../pipelines/scoring/steps/encode-predictions.js";
import { NEXT_PREDICTION_ID, NOTE_BYTES } from "./next-schemas.js";
import { methodsOf } from "./patching.js";

const { idOf } = methodsOf(Schemas);
Schemas.prototype.idOf = function (subject) {
  return subject === "predictions" ? NEXT_PREDICTION_ID : idOf.call(this, subject);
};

const { encode } = methodsOf(PredictionEncoder);
PredictionEncoder.prototype.encode = function (batch, scored, offsets, headersOf, output) {
  const append = (key: Uint8Array | null, value: Uint8Array | null, headers: Uint8Array | null): void =>
    output.append(key, Buffer.concat([value ?? Buffer.alloc(0), NOTE_BYTES]), headers);
  encode.call(this, batch, scored, offsets, headersOf, { append } as PartitionOutput);
};

await import(`../../pipelines/${process.argv[2]}/main.js`);
