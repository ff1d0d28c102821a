import { randomBytes } from "node:crypto";
import { Agent, request as httpRequest } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePorts } from "../../../infra/local/ports.js";
import { topicNames } from "../../../schemas/topics.js";
import { startRole, type MeasuredProcess } from "./child.js";
import { BenchCluster } from "./cluster.js";
import type { BenchContext } from "./context.js";
import { Peers } from "./peers.js";

export interface HttpAnswer {
  status: number;
  body: unknown;
}

const PARTITIONS = 4;
const UP_WITHIN_MS = 60_000;

/**
 * The roles that `npm start` runs beside a trainer, on topics and tables of their own, with the peers' model deployed.
 */
export class ControlPlane {
  readonly bench: BenchCluster;
  readonly processes: Record<"scoring" | "sink" | "api", MeasuredProcess>;
  readonly #port: number;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 256 });
  #token = "";

  private constructor(bench: BenchCluster, processes: ControlPlane["processes"], port: number) {
    this.bench = bench;
    this.processes = processes;
    this.#port = port;
  }

  /** @param models ids under which the peers' model is registered; the first is deployed and live when this resolves */
  static async start(
    { config, kafka, clickhouse, log, print }: BenchContext,
    name: string,
    models: string[],
  ): Promise<ControlPlane> {
    const peers = await Peers.prepare(config.dataDir, print);
    const bench = new BenchCluster(kafka, `bench-${name}-${Date.now()}.`, PARTITIONS, log);
    await bench.reset();
    const port = await freePorts(config.port, 1);
    const password = randomBytes(16).toString("hex");
    const env = {
      KAFKA_BROKERS: bench.bootstrap,
      TOPIC_PREFIX: bench.prefix,
      TOPIC_PARTITIONS: String(PARTITIONS),
      DATA_DIR: config.dataDir,
      ARTIFACTS: config.artifacts,
      CLICKHOUSE_URL: clickhouse.url,
      CLICKHOUSE_USER: clickhouse.username,
      CLICKHOUSE_PASSWORD: clickhouse.password,
      CLICKHOUSE_DATABASE: `bench_${name}_${Date.now()}`,
      PORT: String(port),
      JWT_SECRET: randomBytes(32).toString("hex"),
      ADMIN_PASSWORD: password,
      LOG_LEVEL: "warn",
    };
    const role = (module: string): MeasuredProcess =>
      startRole(`${module}/main`, env, join(config.dataDir, `bench-${name}-${module.replaceAll("/", "-")}.log`));
    const plane = new ControlPlane(
      bench,
      { scoring: role("pipelines/scoring"), sink: role("pipelines/sink"), api: role("api") },
      port,
    );
    try {
      for (const model of models)
        await bench.register(await peers.artifact(config.artifacts, model), {
          schemaRegistryUrl: null,
          schemasDir: null,
        });
      await plane.#signIn(password);
      await plane.enable(models[0]);
      return plane;
    } catch (error) {
      await plane.stop();
      throw error;
    }
  }

  /** One request, on a connection that is kept alive. */
  ask(method: "GET" | "POST" | "PUT", path: string, body?: unknown): Promise<HttpAnswer> {
    const text = body === undefined ? "" : JSON.stringify(body);
    const headers = {
      authorization: `Bearer ${this.#token}`,
      ...(body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
    };
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        { agent: this.#agent, host: "127.0.0.1", port: this.#port, method, path, headers },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk)).on("error", reject);
          response.on("end", () =>
            resolve({
              status: response.statusCode ?? 0,
              body: JSON.parse(Buffer.concat(chunks).toString()) as unknown,
            }),
          );
        },
      );
      request.on("error", reject).end(text);
    });
  }

  /** Makes a model the champion. @returns its epoch, once it is live */
  async enable(model: string): Promise<number> {
    const { status, body } = await this.ask("PUT", `/api/v1/models/${model}/enabled`, {
      enabled: true,
      role: "champion",
    });
    if (status !== 200) throw new Error(`${model} was not enabled: ${status} ${JSON.stringify(body)}`);
    return (body as { epoch: number }).epoch;
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    await Promise.all(Object.values(this.processes).map((process) => process.stop()));
    const admin = this.bench.kafka.admin();
    await admin.connect();
    await admin.deleteTopics({ topics: topicNames(this.bench.topics) });
    await admin.disconnect();
    await this.bench.close();
  }

  async #signIn(password: string): Promise<void> {
    for (let waited = 0; ; waited += 100) {
      const answer = await this.ask("POST", "/api/v1/tokens", { username: "admin", password }).catch(() => null);
      if (answer?.status === 200) {
        this.#token = (answer.body as { access_token: string }).access_token;
        return;
      }
      if (waited > UP_WITHIN_MS) throw new Error(`the API doesn't answer on port ${this.#port}`);
      await sleep(100);
    }
  }
}

/** The value at a share of the way through sorted numbers. */
export function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}
