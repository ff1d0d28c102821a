import type { Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import type { FastifyInstance } from "fastify";
import { HttpProblem } from "./errors.js";

const UNPACK: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  "x-gzip": createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};
const TAKEN = "gzip, deflate, br";

/** Bodies that come packed are unpacked; the route's limit holds for what they unpack to, and unpacking ends there. */
export function packedBodies(app: FastifyInstance): void {
  app.addHook("preParsing", (request, reply, payload, done) => {
    const coding = (request.headers["content-encoding"] ?? "").trim().toLowerCase();
    if (coding === "" || coding === "identity") return done(null, payload);
    const unpack = Object.hasOwn(UNPACK, coding) ? UNPACK[coding]() : null;
    if (unpack === null) {
      return done(
        new HttpProblem("unsupported_encoding", `the body's Content-Encoding is none of ${TAKEN}`, {
          headers: { "accept-encoding": TAKEN },
        }),
      );
    }
    // Fastify holds Content-Length to this.
    const counted = Object.assign(unpack, { receivedEncodedLength: 0 });
    payload.on("data", (chunk: Buffer) => (counted.receivedEncodedLength += chunk.length));
    payload.on("error", (error) => counted.destroy(error));
    // Whoever answers before the end has had enough of it.
    reply.raw.once("close", () => counted.destroy());
    counted.on("error", (error: Error & { statusCode?: number }) => (error.statusCode = 400));
    payload.pipe(counted);
    done(null, counted);
  });
}
