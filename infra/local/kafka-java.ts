import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { FraudstreamError } from "../../schemas/errors.js";
import { rememberedPort, rememberPort } from "./data-dir.js";
import type { EngineStart, RunningEngine } from "./engine.js";
import { EngineProcess } from "./engine-process.js";
import { fetchKafkaJars, KAFKA_VERSION, kafkaJars } from "./kafka-jars.js";
import { brokerProperties } from "./kafka-properties.js";
import { kafkaAnswers } from "./ready.js";
import { freePorts } from "./ports.js";

const run = promisify(execFile);

const START_MS = 90_000;
const STOP_MS = 20_000;

/** Whether this machine can run Kafka without Docker: Java 17 or later, and the jars or Maven to fetch them. */
export async function canRunJava(cacheDir: string): Promise<boolean> {
  const version = await run("java", ["-version"], { timeout: 15_000 }).then(
    (out) => /version "(\d+)/.exec(out.stderr + out.stdout)?.[1],
    () => undefined,
  );
  if (Number(version ?? 0) < 17) return false;
  return (
    existsSync(kafkaJars(cacheDir)) ||
    run("mvn", ["-v"], { timeout: 30_000 }).then(
      () => true,
      () => false,
    )
  );
}

/** Apache Kafka as a Java process, its data in `DATA_DIR/kafka`, on the first free pair of ports from 9092 on. */
export async function startJavaKafka(start: EngineStart): Promise<RunningEngine> {
  const jars = await fetchKafkaJars(start.cacheDir, start.progress, start.signal);
  const folder = join(start.dataDir, "kafka");
  const properties = join(folder, "server.properties");
  await mkdir(folder, { recursive: true });
  let clusterId: string | null = null;
  for (let first = rememberedPort(start.dataDir, "kafka", 9092); ; first += 2) {
    const port = await freePorts(first, 2);
    const address = `127.0.0.1:${port}`;
    await writeFile(
      properties,
      brokerProperties({
        bind: "127.0.0.1",
        port,
        controllerPort: port + 1,
        advertised: address,
        logDir: join(folder, "data"),
      }),
    );
    clusterId ??= await format(folder, properties, jars, start);
    start.progress(`Starting Apache Kafka ${KAFKA_VERSION} on ${address}`);
    const java = [
      "-Xms512m",
      "-Xmx512m",
      "-XX:+UseSerialGC",
      "-XX:+ExitOnOutOfMemoryError",
      ...logging("warn"),
      "-cp",
      join(jars, "*"),
      "kafka.Kafka",
      properties,
    ];
    const broker = await EngineProcess.start({
      name: "Apache Kafka",
      module: "infra/local/guard",
      args: ["-", "java", ...java],
      logFile: join(start.dataDir, "logs/kafka.log"),
    });
    const done = new AbortController();
    try {
      start.lock.addEngine(broker.pid);
      start.lock.addEngine(Number(await broker.message("enginePid", START_MS, start.signal)));
      await broker.orFail(kafkaAnswers(address, clusterId, done.signal), START_MS, start.signal);
    } catch (error) {
      await broker.stop(STOP_MS);
      // Someone took a port between the look and the start.
      if (/Address already in use|BindException/.test(broker.logTail()) && start.signal?.aborted !== true) continue;
      throw error;
    } finally {
      done.abort();
    }
    rememberPort(start.dataDir, "kafka", port);
    return {
      address,
      how: `Apache Kafka ${KAFKA_VERSION} on ${address}, data in ${folder}`,
      ended: broker.ended,
      failure: (what) => broker.failure(what),
      stop: () => broker.stop(STOP_MS),
    };
  }
}

/**
 * Formats the broker's storage once, and gives the cluster's id. The file with the id is written last: data without it
 * comes from a format that was interrupted, and no broker has used it.
 */
async function format(folder: string, properties: string, jars: string, start: EngineStart): Promise<string> {
  const idFile = join(folder, "cluster-id");
  if (existsSync(idFile)) return (await readFile(idFile, "utf8")).trim();
  start.progress("Preparing Kafka's storage");
  await rm(join(folder, "data"), { recursive: true, force: true });
  const clusterId = newClusterId();
  const args = [
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    ...logging("error"),
    "-cp",
    join(jars, "*"),
    "kafka.tools.StorageTool",
    "format",
    "-t",
    clusterId,
    "-c",
    properties,
  ];
  await run("java", args, { timeout: 60_000, ...(start.signal === undefined ? {} : { signal: start.signal }) }).catch(
    (cause: Error & { stderr?: string }) => {
      throw new FraudstreamError(
        "engine_failed",
        `Kafka's storage in ${folder} could not be formatted: ${cause.stderr ?? cause.message}`,
        { cause },
      );
    },
  );
  await writeFile(`${idFile}.tmp`, clusterId);
  await rename(`${idFile}.tmp`, idFile);
  return clusterId;
}

/** 16 random bytes in URL-safe base 64; one that starts with a hyphen would be read as an option. */
export function newClusterId(): string {
  for (;;) {
    const id = randomBytes(16).toString("base64url");
    if (!id.startsWith("-")) return id;
  }
}

function logging(level: string): string[] {
  return [
    `-Dorg.slf4j.simpleLogger.defaultLogLevel=${level}`,
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
  ];
}
