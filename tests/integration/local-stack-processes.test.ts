import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { createServer, type AddressInfo, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@clickhouse/client";
import { Kafka, logLevel } from "kafkajs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { readConfig } from "../../infra/config/config.js";
import { dockerAnswers } from "../../infra/local/docker.js";
import { isFree } from "../../infra/local/ports.js";
import { isAlive, type ProcessIdentity } from "../../infra/local/processes.js";
import { startLocalStack } from "../../infra/local/stack.js";
import { createLogger } from "../../infra/logging.js";
import { compiledModule } from "../../infra/package-root.js";

interface Addresses {
  kafka: string;
  clickhouse: string;
}

const inDocker = await dockerAnswers();
if (inDocker)
  process.stderr.write("skipped: the processes of the local stack without Docker, for Docker answers here\n");

/** The engines as processes of this machine, through a process that has them as `npm start` does. */
describe.skipIf(inDocker)("the local stack's processes", { timeout: 180_000 }, () => {
  let folder: string;
  const children: ChildProcess[] = [];
  const servers: Server[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "fraudstream-stack-"));
  });
  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    for (const server of servers.splice(0)) server.close();
  });
  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  /** A process that is to have a stack, in a process group of its own, as a shell starts it. */
  function spawnStack(dataDir: string, env: NodeJS.ProcessEnv = process.env): ChildProcess {
    const child = fork(compiledModule("tests/support/stack-process"), [dataDir], {
      execArgv: [],
      detached: true,
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      env,
    });
    children.push(child);
    return child;
  }

  async function message(child: ChildProcess, field: "ready" | "refused"): Promise<Record<string, string>> {
    const [content] = (await Promise.race([once(child, "message"), once(child, "exit").then(() => [{}])])) as [
      Record<string, Record<string, string>>,
    ];
    if (!(field in content)) throw new Error(`expected ${field}, got ${JSON.stringify(content)}`);
    return content[field];
  }

  const ready = async (child: ChildProcess): Promise<Addresses> =>
    (await message(child, "ready")) as unknown as Addresses;

  /** The guard of the broker, the broker, and the ClickHouse server. */
  async function engines(dataDir: string): Promise<ProcessIdentity[]> {
    const lock = JSON.parse(await readFile(join(dataDir, "stack.lock"), "utf8")) as { engines: ProcessIdentity[] };
    expect(lock.engines.filter(isAlive)).toHaveLength(3);
    return lock.engines;
  }

  async function gone(processes: ProcessIdentity[]): Promise<void> {
    while (processes.some(isAlive)) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  /** Something else that listens on the ports; 127.0.0.1 and all addresses in turn. */
  async function occupy(...ports: number[]): Promise<number[]> {
    const taken = ports.map(async (port, index) => {
      const server = createServer().listen(port, index % 2 === 0 ? "127.0.0.1" : "0.0.0.0");
      servers.push(server);
      await once(server, "listening");
      return (server.address() as AddressInfo).port;
    });
    return Promise.all(taken);
  }

  async function prefer(dataDir: string, ports: { kafka: number; clickhouse: number }): Promise<void> {
    await mkdir(dataDir, { recursive: true });
    await writeFile(join(dataDir, "ports.json"), JSON.stringify(ports));
  }

  async function write(addresses: Addresses, value: string): Promise<void> {
    const kafka = new Kafka({ brokers: [addresses.kafka], logLevel: logLevel.NOTHING });
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({ topics: [{ topic: "kept", numPartitions: 1 }], waitForLeaders: true });
    await admin.disconnect();
    const producer = kafka.producer();
    await producer.connect();
    await producer.send({ topic: "kept", messages: [{ value }] });
    await producer.disconnect();
    const client = createClient({ url: addresses.clickhouse });
    await client.command({ query: "CREATE DATABASE IF NOT EXISTS kept" });
    await client.command({
      query: "CREATE TABLE IF NOT EXISTS kept.rows (value String) ENGINE = MergeTree ORDER BY value",
    });
    await client.insert({ table: "kept.rows", values: [{ value }], format: "JSONEachRow" });
    await client.close();
  }

  async function read(addresses: Addresses): Promise<{ kafka: string[]; clickhouse: string[] }> {
    const kafka = new Kafka({ brokers: [addresses.kafka], logLevel: logLevel.NOTHING });
    const admin = kafka.admin();
    await admin.connect();
    const [{ high }] = await admin.fetchTopicOffsets("kept");
    await admin.disconnect();
    const consumer = kafka.consumer({ groupId: `readers-${Date.now()}` });
    await consumer.connect();
    await consumer.subscribe({ topic: "kept", fromBeginning: true });
    const values: string[] = [];
    await new Promise<void>((resolve, reject) => {
      consumer
        .run({
          eachMessage: async ({ message: { value } }) => {
            values.push(String(value));
            if (values.length === Number(high)) resolve();
            return Promise.resolve();
          },
        })
        .catch(reject);
    });
    await consumer.disconnect();
    const client = createClient({ url: addresses.clickhouse });
    const rows = await (
      await client.query({ query: "SELECT value FROM kept.rows ORDER BY value", format: "JSONEachRow" })
    ).json<{ value: string }>();
    await client.close();
    return { kafka: values, clickhouse: rows.map((row) => row.value) };
  }

  it("keeps the data through kill -9 of the engines, of their parent, and a restart on other ports", async () => {
    const dataDir = join(folder, "kept");
    const first = spawnStack(dataDir);
    const before = await ready(first);
    await write(before, "one");

    const killed = await engines(dataDir);
    for (const engine of killed) process.kill(engine.pid, "SIGKILL");
    await gone(killed);
    first.kill("SIGTERM");
    await once(first, "exit");

    const second = spawnStack(dataDir);
    const again = await ready(second);
    expect(again).toEqual(before);
    expect(await read(again)).toEqual({ kafka: ["one"], clickhouse: ["one"] });
    await write(again, "two");
    const orphans = await engines(dataDir);
    second.kill("SIGKILL");
    await once(second, "exit");
    await gone(orphans);

    await occupy(...[again.kafka, again.clickhouse].map((address) => Number(address.split(":").at(-1))));
    const third = spawnStack(dataDir);
    const elsewhere = await ready(third);
    expect(elsewhere.kafka).not.toBe(again.kafka);
    expect(elsewhere.clickhouse).not.toBe(again.clickhouse);
    expect(await read(elsewhere)).toEqual({ kafka: ["one", "two"], clickhouse: ["one", "two"] });
  });

  it("refuses a data folder in use, accepts another one, and leaves nothing behind on Ctrl-C", async () => {
    const dataDirs = [join(folder, "left"), join(folder, "right")];
    // Both want the same ports, which a third one has.
    const [kafka, clickhouse] = await occupy(0, 0);
    for (const dataDir of dataDirs) await prefer(dataDir, { kafka, clickhouse });
    const stacks = dataDirs.map((dataDir) => spawnStack(dataDir));
    const addresses = await Promise.all(stacks.map(ready));
    const all = addresses.flatMap((each) => [each.kafka, each.clickhouse]);
    expect(new Set([...all, `127.0.0.1:${kafka}`, `http://127.0.0.1:${clickhouse}`]).size).toBe(6);
    await Promise.all(addresses.map((each, index) => write(each, `row of ${index}`)));
    expect(await Promise.all(addresses.map(read))).toEqual(
      [0, 1].map((index) => ({ kafka: [`row of ${index}`], clickhouse: [`row of ${index}`] })),
    );

    const refused = await message(spawnStack(dataDirs[0]), "refused");
    expect(refused.code).toBe("stack_running");
    expect(refused.message).toContain(`process ${stacks[0].pid}.`);
    expect(await read(addresses[0])).toEqual({ kafka: ["row of 0"], clickhouse: ["row of 0"] });

    const running = (await Promise.all(dataDirs.map(engines))).flat();
    // A terminal sends it to the whole group.
    for (const stack of stacks) process.kill(-(stack.pid ?? 0), "SIGINT");
    await Promise.all(stacks.map((stack) => once(stack, "exit")));
    expect(running.filter(isAlive)).toEqual([]);
    for (const address of all) expect(await isFree(Number(address.split(":").at(-1)))).toBe(true);
  });

  it("stops its engines when it is killed while they start", async () => {
    const dataDir = join(folder, "early");
    const stack = spawnStack(dataDir);
    let started: ProcessIdentity[] = [];
    while (started.length < 3) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      started = await readFile(join(dataDir, "stack.lock"), "utf8").then(
        (text) => (JSON.parse(text) as { engines: ProcessIdentity[] }).engines,
        () => [],
      );
    }
    stack.kill("SIGKILL");
    await gone(started);
    expect(started.filter(isAlive)).toEqual([]);
  });

  it("finishes the current request when ClickHouse is asked to stop, and accepts no other", async () => {
    const server = fork(compiledModule("infra/local/clickhouse-server"), [join(folder, "alone"), "0"], {
      execArgv: [],
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    children.push(server);
    const [{ port }] = (await once(server, "message")) as [{ port: number }];
    const url = `http://127.0.0.1:${port}`;
    const slow = fetch(url, { method: "POST", body: "SELECT 'slow', sleep(2)" });
    // It is running once the server can tell so.
    while (
      !(await (await fetch(url, { method: "POST", body: "SELECT query FROM system.processes" })).text()).includes(
        "slow",
      )
    )
      await new Promise((resolve) => setTimeout(resolve, 20));
    const ended = once(server, "exit");
    server.kill("SIGTERM");
    expect(await (await slow).text()).toBe("slow\t0\n");
    expect(await ended).toEqual([0, null]);
    await expect(fetch(url)).rejects.toThrow();
  });

  it("refuses requests from web pages", async () => {
    const server = fork(compiledModule("infra/local/clickhouse-server"), [join(folder, "page"), "0"], {
      execArgv: [],
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    children.push(server);
    const [{ port }] = (await once(server, "message")) as [{ port: number }];
    const status = (headers: Record<string, string>): Promise<number> =>
      new Promise((resolve, reject) =>
        request({ port, host: "127.0.0.1", path: "/?query=SELECT%201", headers }, (response) =>
          resolve(response.resume().statusCode ?? 0),
        )
          .on("error", reject)
          .end(),
      );
    expect(await status({})).toBe(200);
    expect(await status({ origin: "https://page.example" })).toBe(403);
    expect(await status({ host: "rebound.example" })).toBe(403);
  });

  it("names the three options if neither Docker nor Java is found", async () => {
    const stack = spawnStack(join(folder, "bare"), { PATH: folder });
    const ended = once(stack, "exit");
    const refused = await message(stack, "refused");
    await ended;
    expect(refused.code).toBe("no_engines");
    expect(refused.message).toMatch(
      /^There is no Kafka to use[^]*KAFKA_BROKERS[^]*CLICKHOUSE_URL[^]*Docker[^]*Java 17[^]*Maven/,
    );
    expect(stack.exitCode).toBe(1);
  });

  it("uses configured servers as they are, and starts nothing", async () => {
    const dataDir = join(folder, "untouched");
    const config = readConfig({
      DATA_DIR: dataDir,
      KAFKA_BROKERS: "broker-1:9092,broker-2:9092",
      CLICKHOUSE_URL: "https://clickhouse.example:8443",
    });
    const stack = await startLocalStack({
      config,
      log: createLogger({ logLevel: "silent" }, "test"),
      progress: (line) => expect(line).toBe(""),
    });
    expect(stack.kafka).toBe(config.kafka);
    expect(stack.clickhouse).toBe(config.clickhouse);
    await stack.stop();
    await expect(readFile(join(dataDir, "stack.lock"))).rejects.toMatchObject({ code: "ENOENT" });
  });
});
