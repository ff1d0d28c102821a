import { existsSync, readFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { addressPolicy } from "../../../../infra/download/addresses.js";
import { download, type DownloadOptions } from "../../../../infra/download/download.js";
import type { ResolvedAddress } from "../../../../infra/download/request.js";
import { redirect, staticServer, type Handler } from "../../../support/static-server.js";
import { temporaryFolder } from "../../models/datasets/csv-files.js";

const CSV = `amount,label\n${"12.5,0\n".repeat(20_000)}`;
const local = addressPolicy(["127.0.0.1/32"]);
const defaults: DownloadOptions = { policy: local, maxBytes: 10_000_000, stallMs: 5_000, deadlineMs: 20_000 };

/** A body as S3's clients frame it. @param signature behind each size; empty: none */
function awsFramed(
  body: string | Uint8Array,
  signature = `;chunk-signature=${"0123456789abcdef".repeat(4)}`,
  trailer = "\r\n",
): Buffer {
  const bytes = Buffer.from(body);
  const frames: (Buffer | string)[] = [];
  for (let at = 0; at < bytes.length; at += 8192) {
    const piece = bytes.subarray(at, at + 8192);
    frames.push(`${piece.length.toString(16)}${signature}\r\n`, piece, "\r\n");
  }
  return Buffer.concat([...frames, `0${signature}\r\n`, trailer].map((part) => Buffer.from(part)));
}

/** Downloads to a file of the test's own, and says what is there afterwards. */
async function fetched(
  link: string,
  options: Partial<DownloadOptions> = {},
): Promise<{ code: string; message: string; file: string | null; bytes: number }> {
  const file = join(temporaryFolder(), "data.csv");
  const read = (): string | null => (existsSync(file) ? readFileSync(file, "latin1") : null);
  try {
    const bytes = await download(link, file, { ...defaults, ...options });
    return { code: "", message: "", file: read(), bytes };
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return { code, message, file: read(), bytes: 0 };
  }
}

/** Refused with a code, and nothing of it left on the disk. */
async function expectRefused(code: string, link: string, options: Partial<DownloadOptions> = {}): Promise<string> {
  const result = await fetched(link, options);
  expect(result).toMatchObject({ code, file: null });
  return result.message;
}

describe("a file arrives as it was sent", () => {
  test("plain, with progress to its end", async () => {
    const { origin } = await staticServer({
      "/data.csv": (_request, response) =>
        void response.writeHead(200, { "content-length": CSV.length, "content-type": "text/csv" }).end(CSV),
    });
    const progress: [number, number | null][] = [];
    const result = await fetched(`${origin}/data.csv`, { onProgress: (bytes, total) => progress.push([bytes, total]) });
    expect(result).toEqual({ code: "", message: "", file: CSV, bytes: CSV.length });
    expect(progress.at(-1)).toEqual([CSV.length, CSV.length]);
  });

  test("gzipped, as a file or by the server, and left compressed in both cases", async () => {
    const packed = gzipSync(CSV);
    const { origin } = await staticServer({
      "/data.csv.gz": packed,
      "/data.csv": (_request, response) =>
        void response.writeHead(200, { "content-encoding": "gzip", "content-type": "text/csv" }).end(packed),
    });
    for (const path of ["/data.csv.gz", "/data.csv"])
      expect((await fetched(origin + path)).file).toBe(packed.toString("latin1"));
  });

  test.each<[string, Buffer | string]>([
    ["", CSV],
    ["utf-8", CSV],
    ["aws-chunked", CSV],
    ["binary", CSV],
    ["identity, UTF-8", CSV],
    ["br", brotliCompressSync(CSV)],
    ["deflate", deflateSync(CSV)],
    ["deflate", deflateRawSync(CSV)],
    ["br, gzip", gzipSync(brotliCompressSync(CSV))],
    ["aws-chunked", awsFramed(CSV)],
    ["aws-chunked", awsFramed(CSV, "", "x-amz-checksum-crc32:sOO8/Q==\r\n\r\n")],
    ["br, aws-chunked", awsFramed(brotliCompressSync(CSV))],
    ["aws-chunked,deflate", awsFramed(deflateSync(CSV))],
  ])("content encoding %j", async (encoding, body) => {
    const { origin } = await staticServer({
      "/x.csv": (_request, response) => void response.writeHead(200, { "content-encoding": encoding }).end(body),
    });
    expect(await fetched(`${origin}/x.csv`)).toEqual({ code: "", message: "", file: CSV, bytes: CSV.length });
  });

  test.each([
    ["gzip", gzipSync(gzipSync(CSV))],
    ["gzip,aws-chunked", gzipSync(CSV)],
    ["aws-chunked", gzipSync(CSV)],
    ["gzip, br", brotliCompressSync(gzipSync(CSV))],
    ["", Buffer.concat([gzipSync(CSV), Buffer.alloc(100_000)])],
    ["", Buffer.from("PK\x03\x04 an archive")],
    ["", readFileSync("tests/fixtures/parquet/plain.parquet")],
    ["", Buffer.from(CSV, "utf16le")],
  ])("is stored compressed, by content encoding %j, for its reader to unpack", async (encoding, body) => {
    const { origin } = await staticServer({
      "/x.csv.gz": (_request, response) => void response.writeHead(200, { "content-encoding": encoding }).end(body),
    });
    const { code, file } = await fetched(`${origin}/x.csv.gz`);
    const wanted = encoding === "gzip, br" ? gzipSync(CSV) : body;
    expect([code, file]).toEqual(["", wanted.toString("latin1")]);
  });

  test("frames of aws-chunked that are broken, or cut off", async () => {
    const framed = awsFramed(CSV);
    const { origin } = await staticServer(
      Object.fromEntries(
        [framed.subarray(0, -200), framed.subarray(0, -20_000), Buffer.concat([framed.subarray(0, 9_000), framed])].map(
          (body, n): [string, Handler] => [
            `/${n}`,
            (_request, response) => void response.writeHead(200, { "content-encoding": "aws-chunked" }).end(body),
          ],
        ),
      ),
    );
    for (const n of [0, 1, 2]) await expectRefused("download_broken", `${origin}/${n}`);
  });

  test("too many encodings, and one that unpacks to much that holds nothing", async () => {
    const hollow = Buffer.concat(Array.from({ length: 4_000_000 }, () => Buffer.from([0, 0, 0, 0xff, 0xff])));
    const { origin } = await staticServer({
      "/4": (_request, response) => void response.writeHead(200, { "content-encoding": "br, br, br, br" }).end(CSV),
      "/hollow": (_request, response) =>
        void response.writeHead(200, { "content-encoding": "deflate, gzip" }).end(gzipSync(hollow)),
    });
    expect(await expectRefused("download_encoding", `${origin}/4`)).toMatch(/packed the file 4 times/);
    await expectRefused("download_too_large", `${origin}/hollow`);
  });

  test("through five redirects, absolute and relative, but not through six", async () => {
    const { origin } = await staticServer({
      "/1": redirect("/2", 301),
      "/2": redirect("./3", 303),
      "/3": redirect("/4", 307),
      "/4": redirect("/5", 308),
      "/0": redirect("/1"),
      "/5": (request, response) => redirect(`http://${request.headers.host}/data.csv`)(request, response),
      "/data.csv": CSV,
    });
    expect((await fetched(`${origin}/1`)).file).toBe(CSV);
    await expectRefused("download_redirects", `${origin}/0`);
  });
});

describe("addresses that are not public", () => {
  const nobody = addressPolicy(false);

  test("in the link, however they are written", async () => {
    const { port, asked } = await staticServer({ "/": CSV });
    for (const host of [
      "127.0.0.1",
      "127.1",
      "0x7f.1",
      "2130706433",
      "0177.0.0.1",
      "[::1]",
      "[::ffff:127.0.0.1]",
      "[::7f00:1]",
      "0.0.0.0",
      "169.254.169.254",
      "10.0.0.1",
      "192.168.0.1",
      "[fe80::1]",
      "[fd00::1]",
      "224.0.0.1",
    ]) {
      await expectRefused("download_private_address", `http://${host}:${port}/`, { policy: nobody });
    }
    expect(asked).toEqual([]);
  });

  test("behind a name: the system's own, and one of several addresses", async () => {
    const { port, asked } = await staticServer({ "/": CSV });
    for (const host of ["localhost", "LOCALHOST"])
      await expectRefused("download_private_address", `http://${host}:${port}/`, { policy: nobody });
    const resolve = (): Promise<ResolvedAddress[]> =>
      Promise.resolve([
        { address: "93.184.216.34", family: 4 },
        { address: "127.0.0.1", family: 4 },
      ]);
    const message = await expectRefused("download_private_address", `http://data.example:${port}/`, {
      policy: nobody,
      resolve,
    });
    expect(message).not.toContain("127.0.0.1");
    expect(asked).toEqual([]);
  });

  test("in a redirect, as an address and as a name", async () => {
    const { origin, port, asked } = await staticServer({
      "/metadata": redirect("http://169.254.169.254/latest/meta-data/"),
      "/inner": redirect("http://inner.example/"),
      "/v6": redirect("http://[::1]/"),
      "/data.csv": CSV,
    });
    const resolve = (name: string): Promise<ResolvedAddress[]> =>
      Promise.resolve([{ address: name === "inner.example" ? "10.0.0.7" : "127.0.0.1", family: 4 }]);
    for (const path of ["/metadata", "/inner", "/v6"])
      await expectRefused("download_private_address", origin + path, { resolve });
    expect((await fetched(`http://data.example:${port}/data.csv`, { resolve })).file).toBe(CSV);
    expect(asked).toEqual(["/metadata", "/inner", "/v6", "/data.csv"]);
  });

  test("a name that resolves differently a moment later is looked up once: connects to what was checked", async () => {
    const { port, asked } = await staticServer({ "/data.csv": CSV });
    const answers = ["127.0.0.1", "127.0.0.2"];
    let lookups = 0;
    const resolve = (): Promise<ResolvedAddress[]> =>
      Promise.resolve([{ address: answers[lookups++] ?? "127.0.0.3", family: 4 }]);
    expect((await fetched(`http://data.example:${port}/data.csv`, { resolve })).file).toBe(CSV);
    expect([lookups, asked.length]).toEqual([1, 1]);
    // A second download resolves the name again, which now leads elsewhere.
    await expectRefused("download_private_address", `http://data.example:${port}/data.csv`, { resolve });
    expect([lookups, asked.length]).toEqual([2, 1]);
  });
});

describe("what is refused with a code of its own", () => {
  test.each([
    ["download_bad_url", "ftp://data.example/x.csv"],
    ["download_bad_url", "file:///etc/passwd"],
    ["download_bad_url", "no url"],
    ["download_bad_url", "http://user@127.0.0.1/x.csv"],
    ["download_bad_url", "http://user:secret@127.0.0.1/x.csv"],
  ])("%s: %s", async (code, link) => {
    const message = await expectRefused(code, link);
    expect(message).not.toContain("secret");
  });

  test("a redirect with credentials, or to another protocol", async () => {
    const { origin } = await staticServer({
      "/credentials": redirect("http://user:secret@127.0.0.1/"),
      "/file": redirect("file:///etc/passwd"),
    });
    for (const path of ["/credentials", "/file"])
      expect(await expectRefused("download_bad_url", origin + path)).not.toContain("secret");
  });

  test("a server that doesn't exist; one that answers with an error, or a redirect to nowhere", async () => {
    const { origin, port } = await staticServer({
      "/busy": (_request, response) => void response.writeHead(503).end(),
      "/lost": (_request, response) => void response.writeHead(302).end(),
      "/part": (_request, response) => void response.writeHead(206).end(CSV),
    });
    expect(await expectRefused("download_status", `${origin}/missing.csv`)).toContain("404");
    await expectRefused("download_status", `${origin}/busy`);
    await expectRefused("download_status", `${origin}/lost`);
    await expectRefused("download_status", `${origin}/part`);
    const nowhere = await closedPort();
    await expectRefused("download_unreachable", `http://127.0.0.1:${nowhere}/`);
    await expectRefused("download_unreachable", `http://data.example:${port}/`, {
      resolve: () => Promise.reject(new Error("ENOTFOUND")),
    });
  });

  test.each<[string, Handler | string | Uint8Array]>([
    ["a page", "<!doctype html><html></html>"],
    ["a page after a byte order mark and spaces", "\uFEFF \n<html></html>"],
    ["JSON", '[{"amount": 1}]'],
    ["a PDF", "%PDF-1.7\n"],
    ["a picture", Buffer.from("89504e470d0a1a0a0000000d", "hex")],
    ["nothing", ""],
    ["binary data, packed", gzipSync(Buffer.alloc(4096))],
    ["damaged gzip data", Buffer.concat([Buffer.from([0x1f, 0x8b, 9, 9]), Buffer.alloc(100, 7)])],
    [
      "what the server calls a page",
      (_request, response) => void response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(CSV),
    ],
  ])("not a CSV: %s", async (_name, page) => {
    const { origin } = await staticServer({ "/x": page });
    await expectRefused("download_not_csv", `${origin}/x`);
  });

  test("a content encoding that can't be undone, and a body that is not encoded as stated", async () => {
    const { origin } = await staticServer({
      "/x": (_request, response) => void response.writeHead(200, { "content-encoding": "compress" }).end(CSV),
      "/y": (_request, response) => void response.writeHead(200, { "content-encoding": "br" }).end(CSV),
    });
    await expectRefused("download_encoding", `${origin}/x`);
    await expectRefused("download_broken", `${origin}/y`);
  });

  test("too large: by the stated size, before a byte is read, or by what arrives", async () => {
    let sent = 0;
    const { origin } = await staticServer({
      "/told": (_request, response) => {
        response.writeHead(200, { "content-length": 20_000_000 });
        response.write(CSV, () => (sent += 1));
      },
      "/endless": (_request, response) => {
        const more = (): void => void (response.destroyed || response.write(CSV, more));
        more();
      },
    });
    await expectRefused("download_too_large", `${origin}/told`);
    await expectRefused("download_too_large", `${origin}/endless`, { maxBytes: 1_000_000 });
    expect(sent).toBeLessThanOrEqual(1);
  });

  test("a server that falls silent: before its headers, and midway", async () => {
    const { origin } = await staticServer({
      "/head": () => {},
      "/middle": (_request, response) => void response.write(CSV.slice(0, 5_000)),
    });
    for (const path of ["/head", "/middle"]) await expectRefused("download_stalled", origin + path, { stallMs: 150 });
  });

  test("a server that sends a byte now and then", async () => {
    const { origin } = await staticServer({
      "/slow": (_request, response) => {
        const timer = setInterval(() => response.write("1"), 20);
        response.on("close", () => clearInterval(timer));
      },
    });
    await expectRefused("download_too_slow", `${origin}/slow`, { stallMs: 2_000, deadlineMs: 400 });
  });

  test("a connection that breaks before the end", async () => {
    const { origin } = await staticServer({
      "/x": (_request, response) => {
        response.writeHead(200, { "content-length": CSV.length });
        response.write(CSV.slice(0, 5_000), () => setTimeout(() => response.destroy(), 50));
      },
    });
    expect(await expectRefused("download_broken", `${origin}/x`)).toContain(`of ${CSV.length}`);
  });

  test("a disk that can't store it", async () => {
    const { origin } = await staticServer({ "/x": CSV });
    await expect(download(`${origin}/x`, "/nowhere/data.csv", defaults)).rejects.toMatchObject({
      code: "download_disk",
      retriable: true,
    });
  });
});

test("a caller who gives up ends it and its connection at once", async () => {
  let closed: () => void = () => {};
  const over = new Promise<void>((resolve) => (closed = resolve));
  const stop = new AbortController();
  const { origin } = await staticServer({
    "/x": (_request, response) => {
      response.on("close", closed);
      response.write(CSV.slice(0, 5_000), () => setTimeout(() => stop.abort(new Error("enough")), 50));
    },
  });
  const file = join(temporaryFolder(), "data.csv");
  await expect(download(`${origin}/x`, file, { ...defaults, signal: stop.signal })).rejects.toThrow("enough");
  expect(existsSync(file)).toBe(false);
  await over;
});

/** A port that nobody listens on: that of a server that was closed. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
