import { once } from "node:events";
import { spawn, type ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { Lifecycle } from "../../../../infra/lifecycle/lifecycle.js";
import { createLogger } from "../../../../infra/logging.js";
import { compiledModule } from "../../../../infra/package-root.js";

const log = createLogger({ logLevel: "silent" }, "test");

describe("Lifecycle", () => {
  test("stops its parts once, last started first, even if one fails", async () => {
    const lifecycle = new Lifecycle(log);
    const stopped: string[] = [];
    for (const name of ["a", "b", "c"]) {
      lifecycle.add(name, () => {
        stopped.push(name);
        if (name === "b") throw new Error("it won't");
      });
    }
    await Promise.all([lifecycle.stop(), lifecycle.stop()]);
    await lifecycle.stop();
    expect(stopped).toEqual(["c", "b", "a"]);
    expect(lifecycle.signal.aborted).toBe(true);
    expect(lifecycle.failure).toBeNull();
  });

  test("stops a part that starts while the others are being stopped, or after", async () => {
    const lifecycle = new Lifecycle(log);
    const stopped: string[] = [];
    let release = (): void => {};
    lifecycle.add("slow", () => new Promise<void>((resolve) => (release = resolve)));
    const stopping = lifecycle.stop();
    lifecycle.add("during", () => void stopped.push("during"));
    release();
    await stopping;
    await lifecycle.stop();
    expect(stopped).toEqual(["during"]);
    lifecycle.add("after", () => void stopped.push("after"));
    await lifecycle.stop();
    expect(stopped).toEqual(["during", "after"]);
  });

  test("keeps the first failure", async () => {
    const lifecycle = new Lifecycle(log);
    lifecycle.fail(new Error("first"));
    lifecycle.fail(new Error("second"));
    await lifecycle.stop();
    expect(lifecycle.failure).toEqual(new Error("first"));
  });
});

describe("a process", () => {
  /** Runs a body of runRole or runCommand as a process of its own. */
  async function start(
    how: "runRole" | "runCommand",
    body: string,
  ): Promise<{ child: ChildProcess; ended: Promise<{ code: number | null; out: string; err: string }> }> {
    const folder = await mkdtemp(join(tmpdir(), "fraudstream-lifecycle-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const at = (path: string): string => JSON.stringify(pathToFileURL(compiledModule(path)).href);
    const file = join(folder, "role.mjs");
    writeFileSync(
      file,
      `
      import { ${how} } from ${at("infra/lifecycle/lifecycle")};
      import { createLogger } from ${at("infra/logging")};
      import { RequestError, UsageError } from ${at("schemas/errors")};
      const say = (text) => process.stdout.write(text + "\\n");
      const busy = setInterval(() => {}, 1000);
      const idle = () => { say("stopped"); clearInterval(busy); };
      await ${how}(createLogger({ logLevel: "fatal" }, "test"), async (lifecycle) => { ${body} });
      say("done");`,
    );
    const child = spawn(process.execPath, [file], { stdio: ["ignore", "pipe", "pipe"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    let out = "",
      err = "";
    child.stdout.on("data", (text: Buffer) => (out += text.toString()));
    child.stderr.on("data", (text: Buffer) => (err += text.toString()));
    const ended = once(child, "close").then(([code]) => ({ code: code as number | null, out, err }));
    return { child, ended };
  }

  async function says(child: ChildProcess, text: string): Promise<void> {
    for await (const chunk of child.stdout ?? []) if (String(chunk).includes(text)) return;
  }

  test.each(["SIGINT", "SIGTERM"] as const)("that is a role ends with 0 on %s", async (signal) => {
    const { child, ended } = await start("runRole", `lifecycle.add("part", idle); say("up");`);
    await once(child.stdout as NodeJS.ReadableStream, "data");
    child.kill(signal);
    expect(await ended).toMatchObject({ code: 0, out: "up\nstopped\ndone\n" });
  });

  test("ends with 1 and one line for a user's mistake, with 1 for any other failure", async () => {
    const usage = await (
      await start("runRole", `lifecycle.add("part", idle); throw new UsageError("bad_setting", "set it right");`)
    ).ended;
    expect(usage).toEqual({ code: 1, out: "stopped\ndone\n", err: "set it right\n" });
    const request = await (
      await start(
        "runCommand",
        `lifecycle.add("part", idle); throw new RequestError("file_not_found", "there is no such file");`,
      )
    ).ended;
    expect(request).toMatchObject({ code: 1, err: "there is no such file\n" });
    const failure = await (
      await start("runRole", `lifecycle.add("part", idle); setTimeout(() => lifecycle.fail(new Error("broken")), 10);`)
    ).ended;
    expect(failure.code).toBe(1);
    expect(failure.err).toContain("broken");
  });

  test("that is a command stops what it has started, without a stack, when its output's reader is gone", async () => {
    const { child, ended } = await start(
      "runCommand",
      `lifecycle.add("part", () => { process.stderr.write("stopped"); clearInterval(busy); });
       const talking = setInterval(() => say("line"), 5);
       lifecycle.signal.addEventListener("abort", () => clearInterval(talking));
       await new Promise((resolve) => lifecycle.signal.addEventListener("abort", resolve));`,
    );
    await once(child.stdout as NodeJS.ReadableStream, "data");
    child.stdout?.destroy();
    expect(await ended).toMatchObject({ code: 130, err: "stopped" });
  });

  test("that is told to stop while it starts ends, with what it had started by then", async () => {
    const { child, ended } = await start(
      "runRole",
      `say("up"); await new Promise((resolve) => lifecycle.signal.addEventListener("abort", resolve)); await ` +
        `new Promise((resolve) => setTimeout(resolve, 50)); lifecycle.add("late", idle);`,
    );
    await once(child.stdout as NodeJS.ReadableStream, "data");
    child.kill("SIGTERM");
    expect(await ended).toMatchObject({ code: 0, out: "up\nstopped\ndone\n" });
  });

  test("whose start fails because it was told to stop ends with 0", async () => {
    const { child, ended } = await start(
      "runRole",
      `lifecycle.add("part", idle); say("up"); await new Promise((_, reject) => ` +
        `lifecycle.signal.addEventListener("abort", () => reject(new Error("closed"))));`,
    );
    await once(child.stdout as NodeJS.ReadableStream, "data");
    child.kill("SIGTERM");
    expect(await ended).toMatchObject({ code: 0, out: "up\nstopped\ndone\n" });
  });

  test("whose start hangs when it is told to stop ends anyway", async () => {
    const { child, ended } = await start(
      "runRole",
      `lifecycle.add("part", idle); say("up"); setInterval(() => {}, 1_000); await new Promise(() => {});`,
    );
    await once(child.stdout as NodeJS.ReadableStream, "data");
    child.kill("SIGTERM");
    expect(await ended).toMatchObject({ code: 0, out: "up\nstopped\n" });
  });

  test("that is a command ends on its own with 0, on a signal with 130", async () => {
    expect(await (await start("runCommand", `lifecycle.add("part", idle);`)).ended).toMatchObject({
      code: 0,
      out: "stopped\ndone\n",
    });
    const { child, ended } = await start(
      "runCommand",
      `lifecycle.add("part", idle); say("up"); await new Promise((_, reject) => ` +
        `lifecycle.signal.addEventListener("abort", () => reject(new Error("told to"))));`,
    );
    await once(child.stdout as NodeJS.ReadableStream, "data");
    child.kill("SIGINT");
    expect(await ended).toMatchObject({ code: 130, out: "up\nstopped\ndone\n" });
  });

  test("ends at once on a second signal", async () => {
    const { child, ended } = await start(
      "runRole",
      `lifecycle.add("stuck", () => { say("stopping"); return new Promise(() => {}); }); say("up");`,
    );
    await once(child.stdout as NodeJS.ReadableStream, "data");
    child.kill("SIGTERM");
    await says(child, "stopping");
    child.kill("SIGTERM");
    expect((await ended).code).toBe(130);
  });
});
