import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { FraudstreamError } from "../../schemas/errors.js";
import { rememberedPort, rememberPort } from "./data-dir.js";
import type { EngineStart, RunningEngine } from "./engine.js";
import { EngineProcess } from "./engine-process.js";
import { newClusterId } from "./kafka-java.js";
import { brokerProperties } from "./kafka-properties.js";
import { clickhouseAnswers, kafkaAnswers } from "./ready.js";
import { freePorts } from "./ports.js";

const run = promisify(execFile);

/** The images, as in docker-compose.yml. */
export const KAFKA_IMAGE = "apache/kafka:4.1.1";
export const CLICKHOUSE_IMAGE = "clickhouse/clickhouse-server:26.8.2.7";

const START_MS = 120_000;
const STOP_MS = 30_000;

/** Whether a Docker daemon with Linux containers answers within five seconds. */
export async function dockerAnswers(): Promise<boolean> {
  return run("docker", ["info", "--format", "{{.OSType}}"], { timeout: 5_000 }).then(
    ({ stdout }) => stdout.trim() === "linux",
    () => false,
  );
}

/** Kafka in a container, with the same settings and the same data in `DATA_DIR/kafka` as the Java process. */
export async function startDockerKafka(start: EngineStart): Promise<RunningEngine> {
  const folder = join(start.dataDir, "kafka");
  await mkdir(join(folder, "logs"), { recursive: true });
  const idFile = join(folder, "cluster-id");
  const clusterId = existsSync(idFile) ? (await readFile(idFile, "utf8")).trim() : newClusterId();
  // As kafka-java.ts: the file with the id comes last, so data without it is from an interrupted format.
  const script = [
    "set -e",
    "if [ ! -f /data/cluster-id ]; then",
    "  rm -rf /data/data",
    '  /opt/kafka/bin/kafka-storage.sh format -t "$0" -c /data/server.properties',
    '  printf %s "$0" > /data/cluster-id.tmp',
    "  mv /data/cluster-id.tmp /data/cluster-id",
    "fi",
    "exec /opt/kafka/bin/kafka-server-start.sh /data/server.properties",
  ].join("\n");
  return startContainer(start, {
    engine: "kafka",
    name: "Apache Kafka",
    image: KAFKA_IMAGE,
    preferredPort: 9092,
    containerPort: 9092,
    folder,
    options: [
      "--volume",
      `${folder}:/data`,
      "--env",
      "LOG_DIR=/data/logs",
      "--env",
      "KAFKA_HEAP_OPTS=-Xms512m -Xmx512m",
      "--entrypoint",
      "/bin/sh",
    ],
    command: ["-c", script, clusterId],
    prepare: (address) =>
      writeFile(
        join(folder, "server.properties"),
        brokerProperties({
          bind: "0.0.0.0",
          port: 9092,
          controllerPort: 9093,
          advertised: address,
          logDir: "/data/data",
        }),
      ),
    address: (address) => address,
    answers: (address, signal) => kafkaAnswers(address, clusterId, signal),
  });
}

/** A ClickHouse server in a container, its data in `DATA_DIR/clickhouse-server`. */
export async function startDockerClickHouse(start: EngineStart): Promise<RunningEngine> {
  const folder = join(start.dataDir, "clickhouse-server");
  for (const part of ["data", "logs"]) await mkdir(join(folder, part), { recursive: true });
  return startContainer(start, {
    engine: "clickhouse",
    name: "ClickHouse",
    image: CLICKHOUSE_IMAGE,
    preferredPort: 8123,
    containerPort: 8123,
    folder,
    options: [
      "--volume",
      `${join(folder, "data")}:/var/lib/clickhouse`,
      "--volume",
      `${join(folder, "logs")}:/var/log/clickhouse-server`,
      "--ulimit",
      "nofile=262144:262144",
      // The default user without a password, as chdb has it; the port is published on loopback only.
      "--env",
      "CLICKHOUSE_SKIP_USER_SETUP=1",
    ],
    command: [],
    prepare: () => Promise.resolve(),
    address: (address) => `http://${address}`,
    answers: clickhouseAnswers,
  });
}

interface Container {
  engine: "kafka" | "clickhouse";
  name: string;
  image: string;
  preferredPort: number;
  containerPort: number;
  folder: string;
  options: string[];
  command: string[];
  /** Called once the address is known, before the container starts. */
  prepare: (address: string) => Promise<void>;
  address: (address: string) => string;
  answers: (address: string, signal: AbortSignal) => Promise<void>;
}

/** `docker run` in the foreground under a guard: the container lives as long as this process. */
async function startContainer(start: EngineStart, container: Container): Promise<RunningEngine> {
  await pull(container.image, start);
  const user = await userOptions();
  const folder = createHash("sha256").update(resolve(start.dataDir)).digest("hex").slice(0, 12);
  const name = `fraudstream-${folder}-${container.engine}`;
  for (let first = rememberedPort(start.dataDir, container.engine, container.preferredPort); ; first += 1) {
    const port = await freePorts(first, 1);
    const address = container.address(`127.0.0.1:${port}`);
    await container.prepare(`127.0.0.1:${port}`);
    // The lock on DATA_DIR is ours, so a container of this name is a leftover.
    await removeContainer(name);
    start.progress(`Starting ${container.name} (${container.image}) on ${address}`);
    const docker = [
      "run",
      "--rm",
      "--init",
      "--name",
      name,
      "--publish",
      `127.0.0.1:${port}:${container.containerPort}`,
      ...user,
      ...container.options,
      container.image,
      ...container.command,
    ];
    const client = await EngineProcess.start({
      name: container.name,
      module: "infra/local/guard",
      args: [name, "docker", ...docker],
      logFile: join(start.dataDir, `logs/${container.engine}.log`),
    });
    const stop = async (): Promise<void> => {
      await client.stop(STOP_MS);
      await removeContainer(name);
    };
    const done = new AbortController();
    try {
      start.lock.addEngine(client.pid);
      await client.orFail(container.answers(address, done.signal), START_MS, start.signal);
    } catch (error) {
      await stop();
      // Someone took the port between the look and the start.
      if (/port is already allocated|address already in use/i.test(client.logTail()) && start.signal?.aborted !== true)
        continue;
      throw error;
    } finally {
      done.abort();
    }
    rememberPort(start.dataDir, container.engine, port);
    return {
      address,
      how: `${container.name} (${container.image} in Docker) on ${address}, data in ${container.folder}`,
      ended: client.ended,
      failure: (what) => client.failure(what),
      stop,
    };
  }
}

/** Fetches an image that is not there yet; it has no time limit, but says that it is at work. */
async function pull(image: string, start: EngineStart): Promise<void> {
  if (
    await run("docker", ["image", "inspect", image]).then(
      () => true,
      () => false,
    )
  )
    return;
  const startedAt = Date.now();
  const tell = (): void =>
    start.progress(`Fetching ${image} (this once): ${Math.round((Date.now() - startedAt) / 1000)} s`);
  tell();
  const timer = setInterval(tell, 5_000);
  try {
    const docker = spawn("docker", ["pull", "--quiet", image], {
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
      ...(start.signal === undefined ? {} : { signal: start.signal }),
    });
    let words = "";
    docker.stderr.on("data", (piece: Buffer) => (words = (words + piece.toString()).slice(-2_000)));
    const code = await new Promise<number | null>((resolve, reject) =>
      docker.once("error", reject).once("close", resolve),
    );
    if (code !== 0)
      throw new FraudstreamError("engine_failed", `Docker could not fetch ${image}:\n${words.trim()}`, {
        retriable: true,
      });
  } finally {
    clearInterval(timer);
  }
}

/** What the container writes to DATA_DIR belongs to this user. A rootless daemon maps its root to this user already. */
async function userOptions(): Promise<string[]> {
  const { stdout } = await run("docker", ["info", "--format", "{{json .SecurityOptions}}"], { timeout: 5_000 });
  if (stdout.includes("name=rootless"))
    return ["--user", "0:0", "--env", "CLICKHOUSE_UID=0", "--env", "CLICKHOUSE_GID=0"];
  return process.getuid === undefined || process.getgid === undefined
    ? []
    : ["--user", `${process.getuid()}:${process.getgid()}`];
}

async function removeContainer(name: string): Promise<void> {
  await run("docker", ["rm", "--force", name]).catch(() => undefined);
}
