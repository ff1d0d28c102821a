import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import Fastify, { type FastifyInstance } from "fastify";
import { describe, expect, onTestFinished, test } from "vitest";
import { problems } from "../../../../api/plugins/errors.js";
import { jsonBodies } from "../../../../api/plugins/json-body.js";
import { packedBodies } from "../../../../api/plugins/packed-bodies.js";

const LIMIT = 100_000;
const asItIs = (bytes: Buffer): Buffer => bytes;

function echo(): FastifyInstance {
  const app = Fastify({ bodyLimit: LIMIT });
  problems(app);
  jsonBodies(app);
  packedBodies(app);
  app.post("/", (request) => request.body);
  onTestFinished(() => app.close());
  return app;
}

async function post(
  payload: Buffer | string,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: Record<string, unknown> }> {
  const answer = await echo().inject({
    method: "POST",
    url: "/",
    payload,
    headers: { "content-type": "application/json", ...headers },
  });
  return { status: answer.statusCode, body: answer.json() };
}

describe("compressed bodies", () => {
  const text = JSON.stringify({ id: "t-ü", list: Array.from({ length: 1_000 }, (_, i) => i) });

  test.each([
    ["gzip", gzipSync],
    ["x-gzip", gzipSync],
    ["GZIP", gzipSync],
    ["deflate", deflateSync],
    ["br", brotliCompressSync],
    ["identity", asItIs],
    ["", asItIs],
  ] as const)("%s is unpacked", async (coding, pack) => {
    expect(await post(pack(Buffer.from(text)), { "content-encoding": coding })).toEqual({
      status: 200,
      body: JSON.parse(text) as object,
    });
  });

  test("a wrong length of the compressed body is noticed", async () => {
    const packed = gzipSync(text);
    const app = echo();
    await app.listen({ port: 0, host: "127.0.0.1" });
    const answer = await fetch(`http://127.0.0.1:${(app.server.address() as { port: number }).port}/`, {
      method: "POST",
      body: packed,
      headers: { "content-type": "application/json", "content-encoding": "gzip" },
    });
    expect([answer.status, await answer.json()]).toEqual([200, JSON.parse(text)]);
  });

  test.each(["zstd", "gzip, gzip", "compress", "__proto__"])(
    "%s is refused, and the answer says what is accepted",
    async (coding) => {
      const answer = await echo().inject({
        method: "POST",
        url: "/",
        payload: "{}",
        headers: { "content-type": "application/json", "content-encoding": coding },
      });
      expect([answer.statusCode, answer.json<{ code: string }>().code, answer.headers["accept-encoding"]]).toEqual([
        415,
        "unsupported_encoding",
        "gzip, deflate, br",
      ]);
    },
  );

  test("a body that unpacks beyond the limit is 413; one that is cut off or isn't compressed is 400", async () => {
    expect(await post(gzipSync(Buffer.alloc(50_000_000, " ")), { "content-encoding": "gzip" })).toMatchObject({
      status: 413,
      body: { code: "body_too_large" },
    });
    expect(await post(gzipSync(text).subarray(0, -10), { "content-encoding": "gzip" })).toMatchObject({
      status: 400,
      body: { code: "bad_encoding" },
    });
    expect(await post("{}", { "content-encoding": "gzip" })).toMatchObject({
      status: 400,
      body: { code: "bad_encoding" },
    });
    expect(await post(gzipSync("{"), { "content-encoding": "gzip" })).toMatchObject({
      status: 400,
      body: { code: "bad_json" },
    });
  });
});

describe("text that is not valid Unicode", () => {
  test.each<[string, string, string]>([
    ["half a pair in an id", '{"transaction_id":"\\ud800"}', "transaction_id"],
    ["the other half", '[{"a":1},{"b":{"c":"x\\udc00y"}}]', "[1].b.c"],
    ["halves in the wrong order", '{"a":"\\udc00\\ud800"}', "a"],
    ["a name", '{"attributes":{"\\uDBFF":1}}', "attributes"],
    ["a whole text", '"\\ud83d"', ""],
  ])("%s is 400 and names the field", async (_name, body, field) => {
    expect(await post(body)).toMatchObject({
      status: 400,
      body: { code: "invalid_utf8", errors: [{ in: "body", field }] },
    });
  });

  test("bytes that are not UTF-8 are 400, and pairs are texts", async () => {
    expect(await post(Buffer.from([0x22, 0xff, 0x22]))).toMatchObject({ status: 400, body: { code: "invalid_utf8" } });
    expect(await post(Buffer.from('{"a":"', "utf8").toString("latin1") + '\\ud83d\\ude00"}')).toEqual({
      status: 200,
      body: { a: "😀" },
    });
    expect(await post('{"a":"\\\\ud800"}')).toEqual({ status: 200, body: { a: "\\ud800" } });
  });
});
