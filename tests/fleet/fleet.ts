import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createClickHouse, type ClickHouse } from "../../infra/clickhouse/client.js";
import { freePorts } from "../../infra/local/ports.js";
import type { Role } from "../../infra/roles.js";
import { HttpClient } from "../endurance/client.js";
import { ClickHouseEngine } from "../faults/engines.js";
import { Slot } from "../faults/slot.js";
import { logistic } from "../support/models.js";
import { TestSystem } from "../support/workers-system.js";
import { Brokers } from "./brokers.js";

export const PARTITIONS = 6;
const COPIES: Record<Role, number> = { scoring: 2, sink: 1, merchants: 1, training: 1, api: 1 };
const UP_WITHIN_MS = 120_000;
const PASSWORD = "correct horse battery";

export interface Member {
  slot: Slot;
  port: number;
}

/** Three brokers, ClickHouse, and every role as a process of its own: two scoring workers and one of each other. */
export class Fleet {
  readonly brokers: Brokers;
  readonly clickhouse: ClickHouse;
  readonly system: TestSystem;
  readonly members: Member[] = [];
  readonly client = new HttpClient();
  readonly #engine: ClickHouseEngine;

  private constructor(brokers: Brokers, engine: ClickHouseEngine, system: TestSystem) {
    this.brokers = brokers;
    this.#engine = engine;
    this.system = system;
    this.clickhouse = createClickHouse({ url: engine.direct, username: "default", password: "", database: "fleet" });
  }

  static async start(folder: string, cacheDir: string): Promise<Fleet> {
    const brokers = await Brokers.start(join(folder, "kafka"), cacheDir);
    const engine = new ClickHouseEngine(join(folder, "clickhouse"));
    try {
      await engine.prepare([], 28_000);
      await engine.start();
      const system = await TestSystem.open({
        kafka: { brokers: brokers.addresses, ssl: false, sasl: null },
        prefix: "fleet.",
        partitions: PARTITIONS,
      });
      const fleet = new Fleet(brokers, engine, system);
      await fleet.#prepare(folder);
      return fleet;
    } catch (error) {
      await engine.stop();
      await brokers.stop();
      throw error;
    }
  }

  member(name: string): Member {
    return this.members.find(({ slot }) => slot.name === name) as Member;
  }

  /** Starts every role that doesn't run, and waits until all are ready and the admin has signed in. */
  async startRoles(): Promise<void> {
    for (const { slot } of this.members) slot.start();
    for (const { slot, port } of this.members)
      await this.until(
        `${slot.name} is ready`,
        async () => (await this.client.ask(port, "GET", "/health/ready")).status === 200,
      );
    await this.until("the admin can sign in", async () => {
      const answer = await this.client.ask(this.member("api-1").port, "POST", "/api/v1/tokens", {
        body: { username: "admin", password: PASSWORD },
      });
      if (answer.status === 200) this.client.token = (JSON.parse(answer.text) as { access_token: string }).access_token;
      return answer.status === 200;
    });
  }

  async until(what: string, look: () => Promise<boolean>, patienceMs = UP_WITHIN_MS): Promise<void> {
    for (const deadline = Date.now() + patienceMs; !(await look()); await sleep(250)) {
      if (Date.now() > deadline) throw new Error(`it never came to be that ${what}`);
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map(({ slot }) => slot.kill()));
    this.client.close();
    await this.system.close();
    await this.clickhouse.close();
    await this.#engine.stop();
    await this.brokers.stop();
  }

  async #prepare(folder: string): Promise<void> {
    await this.system.register("amount@1", logistic());
    await this.system.deploy("amount@1");
    await mkdir(join(folder, "logs"), { recursive: true });
    let next = 24_000;
    for (const [role, copies] of Object.entries(COPIES) as [Role, number][]) {
      for (let copy = 1; copy <= copies; copy++) {
        const name = `${role}-${copy}`;
        const port = await freePorts(next, 1);
        next = port + 1;
        const settings = {
          ...this.system.settings,
          CLICKHOUSE_URL: this.#engine.direct,
          CLICKHOUSE_DATABASE: "fleet",
          DATA_DIR: join(folder, "data", name),
          ...(role === "api"
            ? {
                PORT: String(port),
                JWT_SECRET: "a secret of the fleet's, thirty-two bytes or more",
                ADMIN_PASSWORD: PASSWORD,
                RATE_LIMIT: "100000000",
              }
            : { METRICS_PORT: String(port) }),
        };
        this.members.push({
          port,
          slot: new Slot({ name, role, settings, logFile: join(folder, "logs", `${name}.log`) }),
        });
      }
    }
  }
}
