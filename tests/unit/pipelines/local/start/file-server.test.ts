import { gzipSync } from "node:zlib";
import { connect } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { FileServer } from "../../../../../pipelines/local/start/file-server.js";
import { fileWith } from "../../../models/datasets/csv-files.js";

test("serves the file's bytes at the link alone, until another is offered; its port stays taken", async () => {
  const bytes = gzipSync("a,b\n1,2\n");
  const server = await FileServer.listen();
  onTestFinished(() => server.close());
  const link = server.offer(fileWith(bytes, "my data.csv.gz"));
  expect(link).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/[\w-]{32}\/my%20data\.csv\.gz$/);
  expect(new URL(link).host).toBe(server.address);
  const answer = await fetch(link);
  expect([answer.status, answer.headers.get("content-encoding"), answer.headers.get("content-length")]).toEqual([
    200,
    null,
    String(bytes.length),
  ]);
  expect(Buffer.from(await answer.arrayBuffer())).toEqual(bytes);
  const status = async (url: string, method = "GET"): Promise<number> => (await fetch(url, { method })).status;
  expect([
    await status(`http://${server.address}/`),
    await status(new URL("my%20data.csv.gz", `http://${server.address}/`).href),
    await status(`${link}/..`),
    await status(link, "POST"),
  ]).toEqual([404, 404, 404, 404]);

  const second = server.offer(fileWith("x"));
  expect([await status(link), await status(second)]).toEqual([404, 200]);
  await server.close();
  await expect(
    new Promise((resolve, reject) =>
      connect(Number(new URL(link).port), "127.0.0.1")
        .once("connect", resolve)
        .once("error", reject),
    ),
  ).rejects.toMatchObject({ code: "ECONNREFUSED" });
});

test("a file that can't be read gives a broken answer, not an empty file", async () => {
  const server = await FileServer.listen();
  onTestFinished(() => server.close());
  await expect(fetch(server.offer("/nowhere/at/all.csv"))).rejects.toThrow();
});
