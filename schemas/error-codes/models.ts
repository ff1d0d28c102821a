import type { ErrorGroup } from "./row.js";

/** Models that are brought, stored, loaded and run. */
export const MODEL_ERRORS = {
  title: "Models",
  about:
    "400 and 422 answer an upload, 409 a deployment of a stored model. Scoring workers report them as " +
    "conditions, and score with an earlier deployment meanwhile.",
  codes: {
    artifact_corrupt: {
      otherStatuses: [409],
      places: ["job", "log"],
      meaning: "A file of a stored model has another SHA-256 than was registered.",
      remedy: "Put the right file back (ARTIFACTS), or deploy another model.",
    },
    artifact_exists: {
      places: ["log", "exit"],
      meaning: "The version is stored already; a stored model never changes.",
      remedy: "Store it under the next version.",
    },
    artifact_missing: {
      otherStatuses: [404, 409],
      places: ["job", "log"],
      meaning: "A file of a registered model is not there.",
      remedy: "Put it back (ARTIFACTS), or set ARTIFACTS_URL, or deploy another model.",
    },
    artifact_unavailable: {
      places: ["log"],
      meaning: "A model's files are not in ARTIFACTS, and ARTIFACTS_URL does not give them; they are asked for again.",
      remedy: "See that the API answers there and has the same ARTIFACTS_TOKEN.",
    },
    champion_out_of_force: {
      retriable: true,
      places: ["log"],
      meaning: "The champion failed in the middle of a batch, which is scored again with an earlier deployment.",
      remedy: "Deploy another model; the condition says what failed.",
    },
    feature_hash_differs: {
      otherStatuses: [409],
      places: ["job", "log"],
      meaning: "The manifest's features do not have the hash that it says.",
      remedy: "Store the manifest as it was made, or train the model again.",
    },
    manifest_invalid: {
      status: 400,
      otherStatuses: [409],
      places: ["job", "log"],
      meaning: "The manifest is not JSON, or a field of it is wrong.",
      remedy: "Correct the field that is named.",
    },
    model_died: {
      status: 422,
      places: ["log"],
      meaning: "The process that runs the model ended, usually since it needs more memory than it may have.",
      remedy: "Make the model smaller; deploy another one meanwhile.",
    },
    model_failed: {
      status: 422,
      places: ["score", "job", "log"],
      meaning: "Running the model failed.",
      remedy: "Deploy another model, then replay the dead letters.",
    },
    model_hung: {
      status: 422,
      places: ["log"],
      meaning: "The model gave no answer in time.",
      remedy: "Make the model faster; deploy another one meanwhile.",
    },
    model_id_invalid: { places: ["log"], meaning: "This is not a model's id (name@version).", remedy: "Correct it." },
    model_invalid: {
      status: 422,
      places: ["job", "log"],
      meaning: "onnxruntime can't load the model.",
      remedy: "Export it again, for an opset that onnxruntime has.",
    },
    model_name_invalid: {
      status: 400,
      places: ["exit"],
      meaning: "The name of a model may have lower-case letters, digits and `-`, up to 63.",
      remedy: "Choose another name.",
    },
    model_no_score: {
      status: 422,
      meaning: "The model gives no score from 0 to 1 for rows as the stream may bring them.",
      remedy: "Make it take absent and extreme values; `detail` says which.",
    },
    model_shape: {
      status: 422,
      places: ["job", "log"],
      meaning: "The model's inputs or outputs are not those of its features.",
      remedy: "Export it with one float input [None, features], and with the probability as output.",
    },
    model_too_slow: {
      status: 422,
      meaning: "Checking the model, or one batch of it, took longer than it may.",
      remedy: "Make the model faster.",
    },
    not_explainable: {
      places: ["log"],
      meaning: "Reasons can't be computed for this kind of model; its alerts come without.",
      remedy: "Nothing, or bring tree ensembles with node covers.",
    },
    onnx_differs: {
      places: ["job", "exit"],
      meaning: "The written ONNX model scores otherwise than the trainer.",
      remedy: "Report it with the training request: this is a defect.",
    },
    onnx_external_data: {
      status: 422,
      meaning: "The model keeps tensors in another file.",
      remedy: "Export it as a single file.",
    },
    onnx_inputs: {
      status: 422,
      meaning: "The model has several inputs, or not the one that the manifest names.",
      remedy: "Export it with one float input, or correct the manifest.",
    },
    onnx_malformed: {
      status: 422,
      places: ["job"],
      meaning: "The file is not an ONNX model.",
      remedy: "Export it again.",
    },
    onnx_operator: {
      status: 422,
      meaning: "The model has an operator, or functions, that are not taken.",
      remedy: "Export it without them; `detail` names the node.",
    },
    onnx_outputs: {
      status: 422,
      meaning: "Which output is the probability of fraud can't be told, or there is none.",
      remedy: "Name it in the manifest, or export the model with it.",
    },
    onnx_random: {
      status: 422,
      meaning: "The model has a random operator: its scores can't be repeated.",
      remedy: "Export it without.",
    },
    onnx_size: {
      status: 422,
      meaning: "A tensor claims more values than the file holds.",
      remedy: "Export the model again.",
    },
    onnx_too_deep: {
      status: 422,
      meaning: "The model's graphs are nested too deeply.",
      remedy: "Export it flattened.",
    },
    onnx_training: {
      status: 422,
      meaning: "The model has training information.",
      remedy: "Export it for inference.",
    },
    samples_invalid: {
      status: 400,
      meaning: "The sample rows are not JSON, or do not fit the features.",
      remedy: "Correct what `detail` names.",
    },
    samples_too_few: {
      status: 400,
      meaning: "There are too few sample rows.",
      remedy: "Send as many as `detail` asks for.",
    },
    scores_differ: {
      status: 422,
      meaning: "The model scores the sample rows otherwise than its author, or a row's score depends on others.",
      remedy:
        "The message says which it is: ties at thresholds (export with division, or declare a `tolerance`), samples " +
        "that are no float32, the other class, or another model.",
    },
    shadow_failed: {
      places: ["log"],
      meaning: "A shadow gave something else than a number from 0 to 1; it is put out of force in this worker.",
      remedy: "Deploy another shadow.",
    },
    unknown_feature: {
      status: 422,
      places: ["job", "exit", "log"],
      meaning: "There is no such feature, or this version can't compute it.",
      remedy: "Take a name that the message offers, or a worker of the trainer's version.",
    },
    upload_incomplete: {
      status: 400,
      meaning: "The upload lacks a part.",
      remedy: "Send every part that `errors` names.",
    },
    upload_malformed: {
      status: 400,
      meaning: "The upload is not multipart/form-data.",
      remedy: "Correct the request.",
    },
    upload_too_large: {
      status: 413,
      meaning: "A part of the upload is too large, or there are too many.",
      remedy: "Send less.",
    },
    upload_too_slow: { status: 408, meaning: "The upload came too slowly.", remedy: "Send it faster, from nearer." },
    upload_unexpected_part: {
      status: 400,
      meaning: "A part is not known, or came twice.",
      remedy: "Send each part once.",
    },
  },
} as const satisfies ErrorGroup;
