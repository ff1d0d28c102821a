import type { Config } from "../infra/config/config.js";
import type { Logger } from "../infra/logging.js";
import { FraudstreamError, messageOf } from "../schemas/errors.js";
import { ARTIFACT_FILES, keepArtifact, loadArtifact, sha256, type Artifact, type ArtifactFile } from "./artifacts.js";

/** Where workers get registered models from. */
export interface ArtifactSource {
  /** @throws FraudstreamError as `loadArtifact`; `artifact_unavailable` where it can't be fetched at the moment */
  load(model: string, manifestSha256: string): Promise<Artifact>;
}

/** The path of a file under an API's address; the hash is that of the manifest, which holds the ONNX file's. */
function artifactPath(manifestSha256: string, file: ArtifactFile): string {
  return `/api/v1/artifacts/${manifestSha256}/${file}`;
}

/** As much as an upload may have, and more than any model trained here. */
const MOST_BYTES = 256 * 1024 ** 2;
const FETCH_MS = 30_000;
/** What a copy of our own lacks, or has wrong, may be had from the API. */
const FETCHED_FOR = new Set(["artifact_missing", "artifact_corrupt", "manifest_invalid"]);

/**
 * The models in `ARTIFACTS`, and, where `ARTIFACTS_URL` names an API, those that are missing there: they are fetched,
 * checked and kept.
 */
export function artifactSource(
  { artifacts, models: { artifactsUrl, artifactsToken } }: Pick<Config, "artifacts" | "models">,
  log: Logger,
): ArtifactSource {
  return {
    async load(model, manifestSha256) {
      try {
        return await loadArtifact(artifacts, model, manifestSha256);
      } catch (error) {
        if (
          artifactsUrl === null ||
          artifactsToken === null ||
          !(error instanceof FraudstreamError) ||
          !FETCHED_FOR.has(error.code)
        )
          throw error;
      }
      const fetched = await Promise.all(
        ARTIFACT_FILES.map((file) =>
          fetchFile(new URL(artifactPath(manifestSha256, file), artifactsUrl), artifactsToken, `${model}: ${file}`),
        ),
      );
      if (sha256(fetched[0]) !== manifestSha256)
        throw new FraudstreamError(
          "artifact_unavailable",
          `${model}: the manifest from ARTIFACTS_URL is another than the registered one`,
        );
      const artifact = await keepArtifact(artifacts, model, manifestSha256, fetched[0], fetched[1], (error) =>
        log.warn({ model }, `a model from ARTIFACTS_URL can't be kept in ARTIFACTS: ${messageOf(error)}`),
      );
      log.info({ model }, "a model's files were fetched from ARTIFACTS_URL");
      return artifact;
    },
  };
}

async function fetchFile(url: URL, token: string, what: string): Promise<Uint8Array> {
  const unavailable = (reason: string, cause?: unknown): FraudstreamError =>
    new FraudstreamError(
      "artifact_unavailable",
      `${what} is not in ARTIFACTS and can't be fetched from ARTIFACTS_URL: ${reason}`,
      { cause },
    );
  let response: Response;
  try {
    response = await fetch(url, {
      headers: { authorization: `Bearer ${token}` },
      redirect: "error",
      signal: AbortSignal.timeout(FETCH_MS),
    });
  } catch (error) {
    throw unavailable(messageOf(error), error);
  }
  if (!response.ok) {
    await response.body?.cancel();
    const hint =
      response.status === 401 || response.status === 404
        ? " (is ARTIFACTS_TOKEN the same there, and the model registered?)"
        : "";
    throw unavailable(`the API answers ${response.status}${hint}`);
  }
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > MOST_BYTES) throw unavailable(`it has more than ${MOST_BYTES} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof FraudstreamError ? error : unavailable(messageOf(error), error);
  }
  return Buffer.concat(chunks, length);
}
