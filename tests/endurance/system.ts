import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createClickHouse, type ClickHouse } from "../../infra/clickhouse/client.js";
import { freePorts } from "../../infra/local/ports.js";
import type { FeatureSpec } from "../../models/features/plan.js";
import { attribute, doubles, model, node, type Message } from "../../models/onnx/graph.js";
import { startRole, type MeasuredProcess } from "../bench/support/child.js";
import { ROLE_NAMES, ROLES, type Role } from "../../infra/roles.js";
import { HISTORY_FEATURES } from "../support/card-histories.js";
import { weighted, type TestModel } from "../support/models.js";
import { TestSystem } from "../support/workers-system.js";
import { HttpClient } from "./client.js";
import type { Engines } from "./engines.js";

export interface RunningRole {
  name: Role;
  process: MeasuredProcess;
  port: number;
}

const FIRST_PORT = 23_000;
const PARTITIONS = 4;
const UP_WITHIN_MS = 90_000;

/** Every role as a process of its own, on topics and tables of their own, with a champion and a shadow in force. */
export class SystemUnderLoad {
  readonly system: TestSystem;
  readonly clickhouse: ClickHouse;
  readonly client = new HttpClient();
  readonly roles: RunningRole[] = [];
  /** What may stand in no log and no answer. */
  readonly secrets: string[] = [];

  private constructor(system: TestSystem, clickhouse: ClickHouse) {
    this.system = system;
    this.clickhouse = clickhouse;
  }

  /** @param champion @default card and merchant windows, weighted */
  static async start(
    engines: Engines,
    {
      dataDir,
      champion = windowed(),
      settings = {},
    }: { dataDir: string; champion?: TestModel; settings?: Record<string, string> },
  ): Promise<SystemUnderLoad> {
    const prefix = `endurance-${process.pid}.`;
    const database = { ...engines.clickhouseConfig, database: `endurance_${process.pid}` };
    const system = await TestSystem.open({ kafka: engines.kafkaConfig, prefix, partitions: PARTITIONS });
    const under = new SystemUnderLoad(system, createClickHouse(database));
    try {
      const logs = join(dataDir, "logs");
      await mkdir(logs, { recursive: true });
      const password = randomBytes(16).toString("hex");
      const secret = randomBytes(32).toString("hex");
      under.secrets.push(secret, password);
      const common = {
        ...system.settings,
        CLICKHOUSE_URL: database.url,
        CLICKHOUSE_USER: database.username,
        CLICKHOUSE_PASSWORD: database.password,
        CLICKHOUSE_DATABASE: database.database,
        JWT_SECRET: secret,
        ADMIN_PASSWORD: password,
        LOG_LEVEL: "info",
        RATE_LIMIT: "100000000",
        ...settings,
      };
      await system.register("champion@1", champion);
      await system.register("shadow@1", windowed());
      await system.deploy("champion@1", ["shadow@1"]);
      let next = FIRST_PORT;
      for (const name of ROLE_NAMES) {
        const port = await freePorts(next, 1);
        next = port + 1;
        under.roles.push({
          name,
          port,
          process: startRole(
            ROLES[name].module,
            { ...common, ...(ROLES[name].hasMetricsPort ? { METRICS_PORT: String(port) } : { PORT: String(port) }) },
            join(logs, `${name}.log`),
          ),
        });
      }
      for (const { name, port } of under.roles)
        await under.#until(
          `${name} is ready`,
          async () => (await under.client.ask(port, "GET", "/health/ready")).status === 200,
        );
      await under.#until("the admin can sign in", async () => {
        const answer = await under.client.ask(under.apiPort, "POST", "/api/v1/tokens", {
          body: { username: "admin", password },
        });
        if (answer.status === 200)
          under.client.token = (JSON.parse(answer.text) as { access_token: string }).access_token;
        return answer.status === 200;
      });
      return under;
    } catch (error) {
      await under.stop();
      throw error;
    }
  }

  get apiPort(): number {
    return this.roles.find(({ name }) => name === "api")?.port ?? 0;
  }

  /** Roles that have ended by themselves. */
  get ended(): string[] {
    return this.roles
      .filter(({ process: { child } }) => child.exitCode !== null || child.signalCode !== null)
      .map(({ name, process: { child } }) => `${name} ended with ${child.exitCode ?? child.signalCode}`);
  }

  /** The samples of a role's `/metrics`, by name and labels; null: it doesn't answer. */
  async metrics(role: Role): Promise<Map<string, number> | null> {
    const port = this.roles.find(({ name }) => name === role)?.port ?? 0;
    const { status, text } = await this.client.ask(port, "GET", "/metrics", { timeoutMs: 5_000 });
    if (status !== 200) return null;
    return new Map(
      text
        .split("\n")
        .filter((line) => line !== "" && !line.startsWith("#"))
        .map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]),
    );
  }

  /** Stops the roles and looks at how they ended. @returns those that ended otherwise than asked to */
  async stopRoles(): Promise<string[]> {
    const wrong = [...this.ended];
    await Promise.all(this.roles.map(({ process }) => process.stop()));
    return [...wrong, ...this.ended.filter((how) => !how.endsWith(" 0") && !wrong.includes(how))];
  }

  async stop(): Promise<void> {
    await this.stopRoles();
    this.client.close();
    await this.system.close();
    await this.clickhouse.close();
  }

  async #until(what: string, look: () => Promise<boolean>): Promise<void> {
    for (const deadline = Date.now() + UP_WITHIN_MS; !(await look()); await sleep(250)) {
      if (this.ended.length > 0) throw new Error(this.ended.join("; "));
      if (Date.now() > deadline) throw new Error(`it never came to be that ${what}`);
    }
  }
}

const MERCHANT_FEATURE: FeatureSpec = {
  name: "merchant_count_P1D",
  type: "number",
  source: { kind: "merchant", aggregate: "count", window: "P1D", delay: "P7D", bucket: "PT1H" },
  default: 0,
};

/** A weighted sum over the windows of a card and a merchant. */
function windowed(): TestModel {
  const features = [...HISTORY_FEATURES, MERCHANT_FEATURE];
  return weighted(
    features,
    features.map((_, i) => (i === 0 ? 0.002 : 0.0001)),
  );
}

const WIDTH = 256;

/** The same features through a dense network of this many layers, so that a worker can score only so many a second. */
export function heavy(layers: number): TestModel {
  const { features } = windowed();
  const float = (name: string): Message => node("Cast", [`${name}64`], name, [attribute.int("to", 1)]);
  const numbers = (count: number, scale: number): number[] =>
    Array.from({ length: count }, (_, i) => Math.sin(i * 12.9898) * scale);
  const nodes = [float("first"), float("again"), float("last"), node("MatMul", ["features", "first"], "h0")];
  for (let i = 0; i < layers; i++)
    nodes.push(node("Tanh", [`h${i}`], `t${i}`), node("MatMul", [`t${i}`, "again"], `h${i + 1}`));
  nodes.push(
    node("Tanh", [`h${layers}`], "end"),
    node("MatMul", ["end", "last"], "raw"),
    node("Sigmoid", ["raw"], "probability"),
  );
  const constants = [
    doubles("first64", [features.length, WIDTH], numbers(features.length * WIDTH, 0.01)),
    doubles("again64", [WIDTH, WIDTH], numbers(WIDTH * WIDTH, 0.05)),
    doubles("last64", [WIDTH, 1], numbers(WIDTH, 0.05)),
  ];
  return {
    features,
    onnx: model({
      name: "heavy",
      input: { name: "features", features: features.length },
      output: "probability",
      nodes,
      constants,
      metadata: {},
    }),
  };
}
