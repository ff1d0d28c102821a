import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DataDirLock, writeStackFile } from "../../../../infra/local/data-dir.js";
import { identify, isAlive } from "../../../../infra/local/processes.js";

let dataDir: string;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "fraudstream-data-dir-"));
});
afterEach(async () => {
  await rm(dataDir, { recursive: true, force: true });
});

describe("DataDirLock", () => {
  it("is held by one process at a time", async () => {
    const lock = await DataDirLock.take(dataDir);
    await expect(DataDirLock.take(dataDir)).rejects.toMatchObject({
      code: "stack_running",
      message: expect.stringContaining(`process ${process.pid}.`) as unknown,
    });
    lock.release();
    const next = await DataDirLock.take(dataDir);
    next.release();
    expect(await readdir(dataDir)).toEqual([]);
  });

  it("is taken over from a process that is gone, and from an earlier one with the same id", async () => {
    const child = spawn(process.execPath, ["-e", ""]);
    const pid = child.pid ?? 0;
    const started = identify(pid)?.started ?? "";
    await once(child, "exit");
    for (const owner of [
      { pid, started },
      { pid: process.pid, started: "another time" },
    ]) {
      await writeFile(join(dataDir, "stack.lock"), JSON.stringify({ owner, engines: [] }));
      (await DataDirLock.take(dataDir)).release();
    }
    await writeFile(join(dataDir, "stack.lock"), "{ half a lo");
    (await DataDirLock.take(dataDir)).release();
    expect(existsSync(join(dataDir, "stack.lock"))).toBe(false);
  });

  it("stops the engines that a dead owner has left, and no other process", async () => {
    const [engine, stranger] = await Promise.all(
      [1, 2].map(async () => {
        const child = spawn(
          process.execPath,
          ["-e", "process.stdout.write('up'); setInterval(() => undefined, 1000)"],
          { stdio: ["ignore", "pipe", "ignore"] },
        );
        await once(child.stdout, "data");
        return child;
      }),
    );
    try {
      const left = identify(engine.pid ?? 0);
      const other = identify(stranger.pid ?? 0);
      if (left === null || other === null) throw new Error("the processes have not started");
      const owner = { pid: process.pid, started: "another time" };
      await writeFile(
        join(dataDir, "stack.lock"),
        JSON.stringify({ owner, engines: [left, { ...other, started: "another time" }] }),
      );
      (await DataDirLock.take(dataDir)).release();
      expect(isAlive(left)).toBe(false);
      expect(isAlive(other)).toBe(true);
    } finally {
      engine.kill("SIGKILL");
      stranger.kill("SIGKILL");
    }
  });
});

describe("writeStackFile", () => {
  it("replaces the file, readable by its owner only", async () => {
    writeStackFile(join(dataDir, "new"), { kafka: "127.0.0.1:1", clickhouse: "http://127.0.0.1:2" });
    writeStackFile(join(dataDir, "new"), {
      kafka: "127.0.0.1:3",
      clickhouse: "http://127.0.0.1:2",
      api: "http://127.0.0.1:4",
    });
    expect(await readdir(join(dataDir, "new"))).toEqual(["stack.json"]);
    const file = join(dataDir, "new", "stack.json");
    expect(JSON.parse(await readFile(file, "utf8"))).toEqual({
      kafka: "127.0.0.1:3",
      clickhouse: "http://127.0.0.1:2",
      api: "http://127.0.0.1:4",
    });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });
});
