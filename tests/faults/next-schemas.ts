import { predictionSchema } from "../../schemas/generated.js";

/**
 * A prediction as the next version writes it: with one more optional field at its end. In every role's SCHEMAS_DIR from
 * the start.
 */
export const NEXT_PREDICTION_ID = 1_100_002;
export const NEXT_PREDICTION_SCHEMA = {
  ...predictionSchema,
  fields: [...predictionSchema.fields, { name: "note", type: ["null", "string"], default: null }],
};

/** The new field's value in Avro: the union's string, "v2". */
export const NOTE_BYTES = Buffer.from(
  [2, 4, ..."v2"].map((each) => (typeof each === "number" ? each : each.charCodeAt(0))),
);
