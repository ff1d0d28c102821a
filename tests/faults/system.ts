import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Kafka } from "kafkajs";
import { freePorts } from "../../infra/local/ports.js";
import type { FeatureSpec } from "../../models/features/plan.js";
import type { TopicSpec } from "../../schemas/topics.js";
import { alwaysNan, amountFeature, hangsAbove, nanForRefunds } from "../support/models.js";
import type { Role } from "../../infra/roles.js";
import { TestSystem } from "../support/workers-system.js";
import { kafkaJs } from "../support/workers-kafkajs.js";
import { ClickHouseEngine, KafkaEngine, type Engine } from "./engines.js";
import { NEXT_PREDICTION_ID, NEXT_PREDICTION_SCHEMA } from "./next-schemas.js";
import type { Proxy } from "./proxy.js";
import { Slot, type Exit } from "./slot.js";
import { NEXT_TRANSACTION_ID, NEXT_TRANSACTION_SCHEMA } from "./traffic.js";

export const PARTITIONS = 4;
const COPIES: Record<Role, number> = { scoring: 3, sink: 2, merchants: 2, training: 2, api: 2 };
const SLOTS = Object.entries(COPIES).flatMap(([role, copies]) =>
  Array.from({ length: copies }, (_, i) => `${role}-${i + 1}`),
);

const JWT_SECRET = "a secret of the fault tests, thirty-two bytes or more";
export const ADMIN_PASSWORD = "correct horse battery";

const card = (
  aggregate: "count" | "sum" | "mean" | "max" | "distinct_merchants" | "amount_over_mean",
  window: string,
): FeatureSpec => ({
  name: `${aggregate}_${window}`,
  type: "number",
  source: { kind: "card", aggregate, window },
  default: 0,
});
const merchant = (aggregate: "count" | "fraud_share", window: string): FeatureSpec => ({
  name: `merchant_${aggregate}_${window}`,
  type: "number",
  source: { kind: "merchant", aggregate, window, delay: "P7D", bucket: "PT1H" },
  default: 0,
});
const last: FeatureSpec = {
  name: "seconds_since_last",
  type: "number",
  source: { kind: "card", aggregate: "seconds_since_last" },
  default: 0,
};

/** Their features differ, what they give no score does not: refunds. */
export const MODELS: Record<string, FeatureSpec[]> = {
  "windows@1": [
    amountFeature,
    card("count", "PT1H"),
    card("sum", "P1D"),
    card("distinct_merchants", "P7D"),
    card("amount_over_mean", "P7D"),
    last,
    merchant("count", "P1D"),
    merchant("fraud_share", "P7D"),
  ],
  "windows@2": [
    amountFeature,
    card("count", "P7D"),
    card("max", "P1D"),
    card("mean", "P7D"),
    card("sum", "PT1H"),
    merchant("count", "P7D"),
    merchant("fraud_share", "P1D"),
  ],
  "plain@1": [amountFeature],
  "cards@1": [amountFeature, card("distinct_merchants", "P1D"), card("sum", "P7D"), last],
  "hangs@1": [amountFeature],
};
/**
 * Models that an older version let in, which no upload check has seen: one hangs on a payment in four hundred, one has
 * no score at all.
 */
export const HANGS = "hangs@1";
export const MUTE = "mute@1";
/** The greatest amount of the stream is 99.75. */
const HANGS_ABOVE = 99.6;
const FIRST_DEPLOYMENT = { champion: "windows@1", shadows: ["cards@1"] };

/** Below the ports that systems give out themselves. */
const firstPort = (): number => 12_000 + (process.pid % 300) * 60;

/** Engines, proxies, topics, models and the places of the roles of one run. */
export class System {
  readonly dir: string;
  readonly kafka: KafkaEngine;
  readonly clickhouse: ClickHouseEngine;
  readonly slots: Slot[] = [];
  /** The first broker of every role: it accepts connections and never answers. */
  readonly #deaf = createServer((socket) => socket.on("error", () => {}).unref());
  readonly apiPorts = new Map<string, number>();
  database = "faults";
  /** Of topics that got more of them. */
  readonly #partitions = new Map<string, number>();
  test!: TestSystem;

  constructor(dir: string) {
    this.dir = dir;
    this.kafka = new KafkaEngine(join(dir, "kafka"));
    this.clickhouse = new ClickHouseEngine(join(dir, "clickhouse"));
  }

  /** Starts the engines. Ports differ from run to run, so that two can stand beside each other. */
  async startEngines(cacheDir: string): Promise<void> {
    const first = firstPort();
    await this.kafka.prepare(cacheDir, SLOTS, first);
    await this.clickhouse.prepare(SLOTS, first + 30);
    this.#deaf.listen(0, "127.0.0.1");
    await once(this.#deaf, "listening");
    this.#deaf.unref();
    await Promise.all([this.kafka.start(), this.clickhouse.start()]);
  }

  /**
   * Topics, models and the first deployment under a prefix, and a place for each copy of each role; nothing of it runs
   * yet.
   */
  async prepare({
    prefix,
    database,
    settings = {},
    modules = {},
  }: {
    prefix: string;
    database: string;
    settings?: Record<string, string>;
    modules?: Partial<Record<Role, string>>;
  }): Promise<void> {
    this.database = database;
    this.slots.length = 0;
    this.#partitions.clear();
    this.test = await TestSystem.open({
      kafka: { brokers: [this.kafka.direct], ssl: false, sasl: null },
      prefix,
      partitions: PARTITIONS,
    });
    for (const [id, features] of Object.entries(MODELS))
      if (id !== HANGS) await this.test.register(id, nanForRefunds(features));
    await this.test.register(HANGS, hangsAbove(HANGS_ABOVE, MODELS[HANGS]));
    await this.test.register(MUTE, alwaysNan());
    await this.test.deploy(FIRST_DEPLOYMENT.champion, FIRST_DEPLOYMENT.shadows);
    const schemasDir = join(this.dir, "schemas");
    await mkdir(schemasDir, { recursive: true });
    await mkdir(join(this.dir, "logs"), { recursive: true });
    await writeFile(join(schemasDir, `${NEXT_TRANSACTION_ID}.avsc`), JSON.stringify(NEXT_TRANSACTION_SCHEMA));
    await writeFile(join(schemasDir, `${NEXT_PREDICTION_ID}.avsc`), JSON.stringify(NEXT_PREDICTION_SCHEMA));
    const { port: deafPort } = this.#deaf.address() as AddressInfo;
    for (const [role, copies] of Object.entries(COPIES) as [Role, number][]) {
      for (let copy = 1; copy <= copies; copy++) {
        const name = `${role}-${copy}`;
        if (role === "api") this.apiPorts.set(name, await freePorts(firstPort() + 40 + 4 * copy, 1));
        this.slots.push(
          new Slot({
            name,
            role,
            ...(modules[role] === undefined ? {} : { module: modules[role] }),
            logFile: join(this.dir, "logs", `${prefix}${name}.log`),
            settings: {
              ...this.test.settings,
              KAFKA_BROKERS: `127.0.0.1:${deafPort},127.0.0.1:${this.kafka.proxy(name).port}`,
              CLICKHOUSE_URL: `http://127.0.0.1:${this.clickhouse.proxy(name).port}`,
              CLICKHOUSE_DATABASE: database,
              DATA_DIR: join(this.dir, "data", `${prefix}${name}`),
              SCHEMAS_DIR: schemasDir,
              SNAPSHOT_EVERY: "PT15S",
              MERCHANT_WAIT_MS: "10000",
              TRAINER_SILENCE_SECONDS: "5",
              DATASETS_ALLOW_PRIVATE: "127.0.0.1/32",
              ...(role === "api" ? { PORT: String(this.apiPorts.get(name)), JWT_SECRET, ADMIN_PASSWORD } : {}),
              ...settings,
            },
          }),
        );
      }
    }
  }

  /** A topic with the partitions that it has by now. */
  current(topic: TopicSpec): TopicSpec {
    return { ...topic, partitions: this.#partitions.get(topic.name) ?? topic.partitions };
  }

  hasMorePartitions(topic: TopicSpec, partitions: number): void {
    this.#partitions.set(topic.name, partitions);
  }

  /** A Kafka client that is not ours, and that no proxy is in front of. */
  get kafkaJs(): Kafka {
    return kafkaJs(this.test.kafka);
  }

  get engines(): Engine[] {
    return [this.kafka, this.clickhouse];
  }

  slot(name: string): Slot {
    return this.slots.find((slot) => slot.name === name) as Slot;
  }

  of(role: Role): Slot[] {
    return this.slots.filter((slot) => slot.role === role);
  }

  proxy(slot: string, engine: Engine["name"]): Proxy {
    return this[engine].proxy(slot);
  }

  /** Everything passes again, and nothing stands still. Engines are their users' to start. */
  restore(): void {
    for (const { name } of this.slots)
      for (const engine of this.engines) this.proxy(name, engine.name).mode = { kind: "up" };
    for (const slot of this.slots) slot.resume();
  }

  startAll(): void {
    for (const slot of this.slots) slot.start();
  }

  /** Asks copies to stop, politely; without `names` all. @returns how each ended */
  stopAll(names = this.slots.map(({ name }) => name)): Promise<{ name: string; exit: Exit | "hung" | null }[]> {
    return Promise.all(names.map(async (name) => ({ name, exit: await this.slot(name).stop() })));
  }

  /** Ends the roles at once, and what `prepare` has opened. */
  async discard(): Promise<void> {
    await Promise.all(this.slots.map((slot) => slot.kill()));
    await (this.test as TestSystem | undefined)?.close();
  }

  async close(): Promise<void> {
    await this.discard().catch(() => {});
    await Promise.all(this.engines.map((engine) => engine.stop()));
    await Promise.all([this.kafka.closeProxies(), this.clickhouse.closeProxies()]);
  }
}
