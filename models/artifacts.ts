import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readFile, readdir, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { Value } from "@sinclair/typebox/value";
import { FraudstreamError, RequestError, codeOf, messageOf } from "../schemas/errors.js";
import { FEATURE_KINDS, featureHash } from "./features/plan.js";
import { Manifest } from "./manifest.js";

/**
 * An artifact is a folder `<name>@<version>` with `manifest.json` and `model.onnx`. It appears whole, by one rename,
 * and never changes. The manifest's sha256 names it, since the manifest holds the ONNX file's.
 */
export interface Artifact {
  manifest: Manifest;
  onnx: Uint8Array;
  manifestSha256: string;
  folder: string;
}

const MANIFEST_FILE = "manifest.json";
const ONNX_FILE = "model.onnx";
/** The files of an artifact, the manifest first. */
export const ARTIFACT_FILES = [MANIFEST_FILE, ONNX_FILE] as const;
export type ArtifactFile = (typeof ARTIFACT_FILES)[number];
/** A stored model can't be used as it is. */
export class ArtifactError extends FraudstreamError {
  constructor(
    code: "artifact_missing" | "artifact_corrupt" | "manifest_invalid" | "feature_hash_differs" | "unknown_feature",
    message: string,
    options: { cause?: unknown } = {},
  ) {
    super(code, message, options);
  }
}

const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
const MODEL_ID = /^([a-z0-9][a-z0-9-]{0,62})@([1-9][0-9]{0,8})$/;

export function sha256(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * The folder of a model. An id that could lead out of the artifacts' directory is refused like any other wrong one.
 *
 * @throws FraudstreamError `model_id_invalid`
 */
export function artifactFolder(artifactsDir: string, modelId: string): string {
  if (!MODEL_ID.test(modelId))
    throw new FraudstreamError("model_id_invalid", `${JSON.stringify(modelId)} is not a model id (name@version)`);
  return join(artifactsDir, modelId);
}

/** A table's file name without what says that it is one, in small letters: `Cards.csv.gz` → `cards`. */
export function tableName(file: string): string {
  return basename(file)
    .toLowerCase()
    .replace(/(\.(csv|tsv|txt|parquet))?(\.(gz|zip|zst))?$/, "");
}

/** A model's name after its data: `Card Transactions.csv.gz` → `card-transactions`. @param otherwise nothing is left */
export function modelNameOf(file: string, otherwise: string): string {
  return (
    tableName(file)
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-+/, "")
      .slice(0, 63)
      .replace(/-+$/, "") || otherwise
  );
}

/** @throws RequestError `model_name_invalid` */
export function checkModelName(name: string): void {
  if (!NAME.test(name))
    throw new RequestError(
      "model_name_invalid",
      `the model's name is ${JSON.stringify(name)}; it must be lower-case letters, digits and '-', up to 63 of them`,
    );
}

/**
 * The version after the highest that is stored; 1 at first.
 *
 * @throws RequestError `model_name_invalid`
 */
export async function nextVersion(artifactsDir: string, name: string): Promise<number> {
  checkModelName(name);
  let highest = 0;
  for (const entry of await entriesOf(artifactsDir)) {
    const match = MODEL_ID.exec(entry);
    if (match?.[1] === name) highest = Math.max(highest, Number(match[2]));
  }
  return highest + 1;
}

/**
 * Stores an artifact durably: both files and the folder are on disk before the rename, the rename before the return.
 *
 * @throws FraudstreamError `artifact_exists`, `manifest_invalid`, `artifact_corrupt` where the files don't fit each
 *   other
 */
export async function saveArtifact(artifactsDir: string, manifest: Manifest, onnx: Uint8Array): Promise<Artifact> {
  const folder = artifactFolder(artifactsDir, manifest.model);
  checkFit(manifest.model, manifest, onnx);
  await mkdir(artifactsDir, { recursive: true });
  if ((await entriesOf(artifactsDir)).includes(manifest.model)) throw exists(manifest.model);
  const text = Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);
  await putInPlace(artifactsDir, manifest.model, text, onnx);
  return { manifest, onnx, manifestSha256: sha256(text), folder };
}

/**
 * Keeps an artifact that was fetched, byte for byte. What stands in its place and is not it (a copy that was broken
 * off) is put aside.
 *
 * @param onUnkept called with the reason why it could not be kept
 * @throws FraudstreamError as `loadArtifact`
 */
export async function keepArtifact(
  artifactsDir: string,
  modelId: string,
  manifestSha256: string,
  manifestJson: Uint8Array,
  onnx: Uint8Array,
  onUnkept: (error: unknown) => void,
): Promise<Artifact> {
  const folder = artifactFolder(artifactsDir, modelId);
  const manifest = parseManifest(modelId, manifestJson);
  checkFit(modelId, manifest, onnx);
  const present = await loadArtifact(artifactsDir, modelId, manifestSha256).catch(() => null);
  if (present !== null) return present;
  try {
    await mkdir(artifactsDir, { recursive: true });
    await rename(folder, join(artifactsDir, `.${modelId}.${randomBytes(6).toString("hex")}.broken`)).catch(
      (error: unknown) => {
        if (codeOf(error) !== "ENOENT") throw error;
      },
    );
    await putInPlace(artifactsDir, modelId, manifestJson, onnx);
  } catch (error) {
    // Another worker with the same folder was quicker; or the folder can't be written to, and the model is fetched
    // again next time.
    if (!(error instanceof FraudstreamError) || error.code !== "artifact_exists") onUnkept(error);
  }
  return { manifest, onnx, manifestSha256, folder };
}

/**
 * Both files and the folder are on disk before the rename, the rename before the return. @throws FraudstreamError
 * `artifact_exists`
 */
async function putInPlace(
  artifactsDir: string,
  modelId: string,
  manifestJson: Uint8Array,
  onnx: Uint8Array,
): Promise<void> {
  const draft = join(artifactsDir, `.${modelId}.${randomBytes(6).toString("hex")}`);
  try {
    await mkdir(draft);
    await writeDurably(join(draft, MANIFEST_FILE), manifestJson);
    await writeDurably(join(draft, ONNX_FILE), onnx);
    await syncFolder(draft);
    // rename() replaces no folder that has files, so of two that store one id, one fails here.
    await rename(draft, artifactFolder(artifactsDir, modelId));
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    if (["ENOTEMPTY", "EEXIST"].includes(codeOf(error) ?? "")) throw exists(modelId);
    throw error;
  }
  await syncFolder(artifactsDir);
}

/**
 * Stores a model under the next version of its name, whatever version its manifest names: another process that takes
 * the version first only means the one after.
 *
 * @param above a version that was given before, whether its folder is still there or not
 * @throws as `saveArtifact`, but for `artifact_exists`
 */
export async function saveNextVersion(
  artifactsDir: string,
  name: string,
  built: { manifest: Manifest; onnx: Uint8Array },
  above = 0,
): Promise<Artifact> {
  for (;;) {
    const model = `${name}@${Math.max(await nextVersion(artifactsDir, name), above + 1)}`;
    try {
      return await saveArtifact(artifactsDir, { ...built.manifest, model }, built.onnx);
    } catch (error) {
      if (!(error instanceof FraudstreamError) || error.code !== "artifact_exists") throw error;
    }
  }
}

/**
 * Reads an artifact and checks it: both hashes, the manifest's schema, its id and its feature hash.
 *
 * @param manifestSha256 as it was registered; without it, the manifest is taken as it is
 * @throws FraudstreamError `model_id_invalid`, `artifact_missing`, `artifact_corrupt`, `manifest_invalid`,
 *   `feature_hash_differs`
 */
export async function loadArtifact(artifactsDir: string, modelId: string, manifestSha256?: string): Promise<Artifact> {
  const { manifest, manifestSha256: found, folder } = await loadManifest(artifactsDir, modelId, manifestSha256);
  const onnx = await readPart(folder, modelId, ONNX_FILE);
  checkFit(modelId, manifest, onnx);
  return { manifest, onnx, manifestSha256: found, folder };
}

/** The manifest of an artifact alone; its ONNX file is not looked at. @throws as `loadArtifact` */
export async function loadManifest(
  artifactsDir: string,
  modelId: string,
  manifestSha256?: string,
): Promise<Omit<Artifact, "onnx">> {
  const folder = artifactFolder(artifactsDir, modelId);
  const text = await readPart(folder, modelId, MANIFEST_FILE);
  const found = sha256(text);
  if (manifestSha256 !== undefined && found !== manifestSha256) {
    throw new ArtifactError(
      "artifact_corrupt",
      `${modelId}: ${MANIFEST_FILE} has sha256 ${found}, but ${manifestSha256} was registered`,
    );
  }
  return { manifest: parseManifest(modelId, text), manifestSha256: found, folder };
}

/**
 * A manifest from its JSON.
 *
 * @throws FraudstreamError `manifest_invalid`, naming the first field that is wrong, `unknown_feature`
 */
function parseManifest(modelId: string, json: Uint8Array): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch (cause) {
    throw new ArtifactError("manifest_invalid", `${modelId}: the manifest is not JSON: ${messageOf(cause)}`, { cause });
  }
  if (Value.Check(Manifest, value)) return value;
  const unknown = unknownKind(value);
  if (unknown !== null)
    throw new ArtifactError("unknown_feature", `${modelId}: ${unknown}, which this version can't compute`);
  const first = Value.Errors(Manifest, value).First();
  throw new ArtifactError(
    "manifest_invalid",
    `${modelId}: the manifest is wrong${first === undefined ? "" : ` at ${first.path || "/"}: ${first.message}`}`,
  );
}

/** The first feature of a kind that a later version may know; null: there is none. */
function unknownKind(manifest: unknown): string | null {
  const { features } = (manifest ?? {}) as { features?: unknown };
  if (!Array.isArray(features)) return null;
  for (const [index, feature] of features.entries()) {
    const { kind } = ((feature as { source?: unknown } | null)?.source ?? {}) as { kind?: unknown };
    if (typeof kind === "string" && !FEATURE_KINDS.has(kind))
      return `features[${index}] is of the kind ${JSON.stringify(kind.slice(0, 60))}`;
  }
  return null;
}

/** What the schema can't say: that the parts of an artifact belong together. */
function checkFit(modelId: string, manifest: Manifest, onnx: Uint8Array): void {
  const invalid = (reason: string): ArtifactError => new ArtifactError("manifest_invalid", `${modelId}: ${reason}`);
  if (!Value.Check(Manifest, manifest))
    throw invalid(`the manifest is wrong at ${Value.Errors(Manifest, manifest).First()?.path ?? "/"}`);
  if (manifest.model !== modelId) throw invalid(`the manifest is that of ${manifest.model}`);
  const { review, decline } = manifest.thresholds;
  if (review > decline) throw invalid(`the review threshold ${review} is above the decline threshold ${decline}`);
  if (new Set(manifest.features.map(({ name }) => name)).size < manifest.features.length)
    throw invalid("two features have the same name");
  const hash = featureHash(manifest.features);
  if (hash !== manifest.feature_hash)
    throw new ArtifactError(
      "feature_hash_differs",
      `${modelId}: its features have hash ${hash}, the manifest says ${manifest.feature_hash}`,
    );
  const found = sha256(onnx);
  if (found !== manifest.sha256)
    throw new ArtifactError(
      "artifact_corrupt",
      `${modelId}: ${ONNX_FILE} has sha256 ${found}, the manifest says ${manifest.sha256}`,
    );
}

async function readPart(folder: string, modelId: string, file: string): Promise<Uint8Array> {
  try {
    return await readFile(join(folder, file));
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT")
      throw new ArtifactError("artifact_missing", `${modelId}: there is no ${join(folder, file)}`, { cause });
    throw cause;
  }
}

async function entriesOf(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return [];
    throw error;
  }
}

async function writeDurably(file: string, content: Uint8Array | string): Promise<void> {
  const handle = await open(file, "wx");
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function exists(model: string): FraudstreamError {
  return new FraudstreamError("artifact_exists", `${model} is stored already; an artifact never changes`);
}
