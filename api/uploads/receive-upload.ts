import type { Readable } from "node:stream";
import type { FastifyRequest } from "fastify";
import type { Multipart } from "@fastify/multipart";
import { HttpProblem } from "../plugins/errors.js";

/** The parts of an uploaded model, as they came. */
export interface ReceivedUpload {
  manifest: Buffer;
  model: Buffer;
  samples: Buffer;
}
type Part = keyof ReceivedUpload;

const MIB = 1024 ** 2;
/** Most bytes of each part. */
const MOST_BYTES: Readonly<Record<Part, number>> = { manifest: MIB, model: 64 * MIB, samples: 8 * MIB };
const PARTS = Object.keys(MOST_BYTES) as Part[];

/** For `@fastify/multipart`: one part more than is wanted, so that it can be named. */
export const MULTIPART_LIMITS = {
  fieldNameSize: 100,
  fieldSize: MOST_BYTES.samples + 1,
  fileSize: MOST_BYTES.model + 1,
  fields: 4,
  files: 4,
  parts: 4,
  headerPairs: 32,
};

/** What is left of the request is not worth reading. */
const CLOSE = { headers: { connection: "close" } };

/**
 * Reads a multipart request of three parts, each once, each a file or a field: manifest, model, samples.
 *
 * @throws HttpProblem 415, 400 `upload_malformed`, `upload_unexpected_part`, `upload_incomplete`, 413
 *   `upload_too_large`
 */
export async function receiveUpload(request: FastifyRequest): Promise<ReceivedUpload> {
  if (!request.isMultipart())
    throw new HttpProblem(
      "unsupported_media_type",
      `multipart/form-data is needed, with the parts ${PARTS.join(", ")}`,
      CLOSE,
    );
  const received: Partial<ReceivedUpload> = {};
  try {
    for await (const part of request.parts()) {
      const name = PARTS.find((known) => known === part.fieldname);
      if (name === undefined || received[name] !== undefined) {
        throw new HttpProblem(
          "upload_unexpected_part",
          `the part ${JSON.stringify(part.fieldname.slice(0, 100))} ` +
            `${name === undefined ? `is not one of ${PARTS.join(", ")}` : "came twice"}`,
          CLOSE,
        );
      }
      received[name] = await contentOf(part, name);
    }
  } catch (error) {
    throw asProblem(error);
  }
  const { manifest, model, samples } = received;
  if (manifest !== undefined && model !== undefined && samples !== undefined) return { manifest, model, samples };
  const missing = PARTS.filter((name) => received[name] === undefined);
  throw new HttpProblem("upload_incomplete", `the upload has no ${missing.join(", no ")}`, {
    errors: missing.map((field) => ({ in: "body" as const, field, code: "required", message: "is missing" })),
  });
}

async function contentOf(part: Multipart, name: Part): Promise<Buffer> {
  if (part.type === "field") {
    const value = Buffer.from(typeof part.value === "string" ? part.value : String(part.value));
    if (part.valueTruncated || value.length > MOST_BYTES[name]) throw tooLarge(name);
    return value;
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of part.file as Readable as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MOST_BYTES[name]) throw tooLarge(name);
    chunks.push(chunk);
  }
  if (part.file.truncated) throw tooLarge(name);
  return Buffer.concat(chunks, length);
}

function tooLarge(name: Part): HttpProblem {
  return new HttpProblem("upload_too_large", `the ${name} has more than ${MOST_BYTES[name]} bytes`, CLOSE);
}

/** The multipart reader's own complaints: too many parts, or not multipart at all. */
function asProblem(error: unknown): unknown {
  if (error instanceof HttpProblem || !(error instanceof Error)) return error;
  const { statusCode } = error as Error & { statusCode?: number };
  if (statusCode === 413)
    return new HttpProblem(
      "upload_too_large",
      `the upload has too many parts, or one is too long: ${PARTS.join(", ")} are wanted`,
      { ...CLOSE, cause: error },
    );
  return new HttpProblem("upload_malformed", `the upload can't be read as multipart/form-data: ${error.message}`, {
    ...CLOSE,
    cause: error,
  });
}
