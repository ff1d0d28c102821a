import { Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import { Look } from "../../models/datasets/look.js";
import { READING_FIELDS } from "../../models/datasets/reading-request.js";
import { FraudstreamError, RequestError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import { lookInProcess, type LookRequest } from "../looks/look-child.js";

/** Each is a process with a file of up to 256 MiB, which in a container is in memory. */
const AT_ONCE = 2;

const Body = Type.Object(
  {
    dataset: Type.String({
      pattern: "^https?://",
      maxLength: 2_000,
      description: "A public http or https link to a CSV file (plain, gzipped, zipped or by zstd) or a Parquet file",
    }),
    ...READING_FIELDS,
  },
  {
    additionalProperties: false,
    title: "LookRequest",
    examples: [
      { dataset: "https://example.com/transactions.csv.gz" },
      { dataset: "https://example.com/us.csv", day_first: false, columns: { card_id: "first+last" }, drop: ["batch"] },
    ],
  },
);

/** How a file would be read, before a model is trained on it. */
export function datasetRoutes(app: FastifyInstance, { config }: ApiContext): Promise<void> {
  let running = 0;
  app.post<{ Body: LookRequest }>(
    "/api/v1/datasets/look",
    {
      config: { permission: "jobs:write" },
      schema: {
        tags: ["training"],
        summary: "Show how a linked file is read: its columns, what is left out, what looks like the label",
        body: Body,
        response: { 200: Look },
      },
    },
    async ({ body }, reply) => {
      if (!URL.canParse(body.dataset)) throw new RequestError("bad_training_request", "dataset: it is not a URL");
      if (running >= AT_ONCE)
        throw new FraudstreamError("busy", `${AT_ONCE} files are being looked at: try again in a moment`);
      running += 1;
      const gone = new AbortController();
      reply.raw.once("close", () => gone.abort());
      try {
        return await lookInProcess(body, config.training, gone.signal);
      } finally {
        running -= 1;
      }
    },
  );
  return Promise.resolve();
}
