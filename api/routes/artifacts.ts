import { timingSafeEqual } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import { ARTIFACT_FILES, loadArtifact, sha256 } from "../../models/artifacts.js";
import type { ApiContext } from "../context.js";
import { HttpProblem } from "../plugins/errors.js";

/**
 * The files of registered models, for scoring workers that don't share a folder with the API (ARTIFACTS_URL there).
 * They are asked for by the sha256 of the manifest, so that the receiver can check them; and returned to holders of
 * ARTIFACTS_TOKEN, not to users.
 */
export async function artifactRoutes(app: FastifyInstance, { config, control }: ApiContext): Promise<void> {
  const { artifactsToken } = config.models;
  if (artifactsToken === null) return;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const schema = {
    tags: ["models"],
    summary: "A file of a registered model",
    description: "For scoring workers, which show ARTIFACTS_TOKEN as a bearer token.",
    produces: ["application/octet-stream"],
    params: Type.Object(
      {
        hash: Type.String({ pattern: "^[0-9a-f]{64}$", description: "sha256 of the manifest." }),
        file: Type.Union(ARTIFACT_FILES.map((file) => Type.Literal(file))),
      },
      { additionalProperties: false },
    ),
    response: {
      200: Type.Unsafe<Buffer>({ type: "string", format: "binary", description: "The file, byte for byte." }),
    },
  };
  api.get(
    "/api/v1/artifacts/:hash/:file",
    { schema, serializerCompiler: () => (data) => data as string },
    async (request, reply) => {
      if (!isBearer(request.headers.authorization, artifactsToken))
        throw new HttpProblem("unauthenticated", "this takes ARTIFACTS_TOKEN as a bearer token", {
          headers: { "www-authenticate": "Bearer" },
        });
      const { hash, file } = request.params;
      const find = () => [...control.state.models.values()].find(({ manifestSha256 }) => manifestSha256 === hash);
      if (find() === undefined) await control.readToEnd();
      const registered = find();
      if (registered === undefined)
        throw new HttpProblem("unknown_artifact", "no model with this manifest is registered");
      const { folder, onnx } = await loadArtifact(config.artifacts, registered.model, hash).catch((error: unknown) => {
        throw new HttpProblem("artifact_missing", "the files of this model are not here", {
          status: 404,
          cause: error,
        });
      });
      return reply
        .type("application/octet-stream")
        .send(Buffer.from(file === "model.onnx" ? onnx : await readFile(join(folder, file))));
    },
  );
  return Promise.resolve();
}

/** Compares hashes, so that the time that it takes tells nothing. */
function isBearer(header: string | undefined, token: string): boolean {
  const hash = (text: string): Buffer => Buffer.from(sha256(text), "hex");
  return timingSafeEqual(hash(header ?? ""), hash(`Bearer ${token}`));
}
