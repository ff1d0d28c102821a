import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import { FIXED_SCHEMAS } from "../../schemas/wire-format.js";
import { subjectTopics } from "../../schemas/topics.js";
import type { ApiContext } from "../context.js";
import { HttpProblem } from "../plugins/errors.js";

/**
 * The schemas of our records under a registry's own paths, read-only, so that a stock deserializer can be pointed here.
 * Where a registry is configured, that one has them.
 */
export async function schemaRoutes(app: FastifyInstance, { config, schemas, topics }: ApiContext): Promise<void> {
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const tags = ["schemas"];
  const elsewhere = (): void => {
    if (config.schemaRegistryUrl !== null)
      throw new HttpProblem("registry_elsewhere", "a schema registry is configured (SCHEMA_REGISTRY_URL): ask it");
  };
  const bySubject = new Map(
    [...FIXED_SCHEMAS].map(([id, { subject, schema }]) => [`${subjectTopics(topics)[subject]}-value`, { id, schema }]),
  );

  const byId = {
    tags,
    summary: "A schema by its id",
    params: Type.Object({ id: Type.Integer({ minimum: 1, maximum: 4_294_967_295 }) }, { additionalProperties: false }),
    response: {
      200: Type.Object({ schema: Type.String({ description: "Avro, as JSON." }) }, { description: "The schema." }),
    },
  };
  api.get("/schemas/ids/:id", { schema: byId }, async (request) => {
    elsewhere();
    const schema = await schemas.load(request.params.id);
    // The registry's own code, which its clients look at.
    if (schema === null) throw new HttpProblem("unknown_schema", "there is no schema of this id");
    return { schema: JSON.stringify(schema) };
  });

  const latest = {
    tags,
    summary: "The schema of a topic's values",
    params: Type.Object({ subject: Type.String({ description: "<topic>-value" }) }, { additionalProperties: false }),
    response: {
      200: Type.Object(
        {
          subject: Type.String(),
          version: Type.Integer(),
          id: Type.Integer(),
          schema: Type.String({ description: "Avro, as JSON." }),
        },
        { description: "The only version." },
      ),
    },
  };
  api.get("/subjects/:subject/versions/latest", { schema: latest }, (request) => {
    elsewhere();
    const { subject } = request.params;
    const found = bySubject.get(subject);
    if (found === undefined) throw new HttpProblem("unknown_subject", "there is no such subject");
    return { subject, version: 1, id: found.id, schema: JSON.stringify(found.schema) };
  });
  return Promise.resolve();
}
