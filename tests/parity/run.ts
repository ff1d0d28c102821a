import { setTimeout as sleep } from "node:timers/promises";
import { createClickHouse, type ClickHouse } from "../../infra/clickhouse/client.js";
import type { ClickHouseConfig, KafkaConfig } from "../../infra/config/config.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import type { Dataset } from "../../models/datasets/dataset.js";
import { CARD_AGGREGATE_NAMES } from "../../models/features/card-aggregates.js";
import { historyFeature } from "../../models/features/history-features.js";
import type { ColumnSource } from "../../models/features/column-sources.js";
import type { FeatureSpec } from "../../models/features/plan.js";
import { LabelSchedule, type Rows } from "../../pipelines/local/replay/label-schedule.js";
import { Pace } from "../../pipelines/local/replay/pace.js";
import { replayTransactions } from "../../pipelines/local/replay/replay-transactions.js";
import { killWorkers, stopWorkers, type KillReport, type StopReport } from "../faults/faults.js";
import { featureParity, windowParity, type ParityReport, type SqlParityReport } from "../support/feature-parity.js";
import { amountFeature, logistic } from "../support/models.js";
import type { RandomSource } from "../support/random-source.js";
import { eventually } from "../support/eventually.js";
import { RoleProcess } from "../support/workers.js";
import { TestSystem } from "../support/workers-system.js";

/** Features from columns, of every kind, over attributes that a data set may have. */
const COLUMN_FEATURES: [string, ColumnSource][] = [
  ["difference", { kind: "difference", of: ["attributes.old", "attributes.new"] }],
  ["ratio", { kind: "ratio", of: ["amount", "attributes.old"] }],
  ["error", { kind: "sum_error", total: "attributes.old", plus: ["attributes.new", "amount"] }],
  ["km", { kind: "distance", from: ["attributes.lat", "attributes.lon"], to: ["attributes.lat2", "attributes.lon2"] }],
  ["age", { kind: "age", since: "attributes.born" }],
  ["days", { kind: "days_since", since: "attributes.opened" }],
  ["domain", { kind: "text_part", of: "attributes.mail", part: "email_domain", equals: "host3.example" }],
  ["net", { kind: "text_part", of: "attributes.ip", part: "ipv4_24", equals: "10.0.1" }],
  ["bin", { kind: "text_part", of: "merchant_id", part: "bin", equals: "411111" }],
];

/**
 * Every feature over time that there is, over three windows, and every kind from columns; what is missing is -1, since
 * a linear model gives no score for NaN.
 */
export const PARITY_FEATURES: FeatureSpec[] = [
  amountFeature,
  ...["1d", "7d", "30d"].flatMap((window) => [
    ...CARD_AGGREGATE_NAMES.map((aggregate) => `card_${aggregate}_${window}`),
    `card_fraud_share_${window}`,
    `merchant_count_${window}`,
    `merchant_fraud_share_${window}`,
  ]),
  "card_count_90m",
  "card_seconds_since_last",
  ...COLUMN_FEATURES.map(([name, source]): FeatureSpec => {
    return { name, type: source.kind === "text_part" ? "boolean" : "number", source, default: -1 };
  }),
].map((feature) =>
  typeof feature === "string" ? { ...(historyFeature(feature) as FeatureSpec), default: -1 } : feature,
);

export interface ParityRunOptions {
  kafka: KafkaConfig;
  clickhouse: ClickHouseConfig;
  prefix: string;
  partitions: number;
  /** What is replayed, with its labels a week late. */
  dataset: Dataset;
  /**
   * Workers killed with -9 within a Kafka transaction; stopped within one until another has fenced them, then let go
   * on.
   */
  kills: number;
  stops: number;
  /**
   * The share of what is left that is published every 50 ms as long as the faults go on; then the rest comes at once.
   */
  share: number;
  /** Between two things that happen to the merchants' processes: their partitions are taken over meanwhile. */
  calmMs: number;
  random: RandomSource;
  progress?: (line: string) => void;
}

export interface ParityRun {
  features: ParityReport;
  windows: SqlParityReport;
  kills: KillReport;
  stops: StopReport;
  merchants: { kills: number; stops: number };
}

const MODEL = "parity@1";
const TICK_MS = 50;
/** Longer than a member of a group may be silent. */
const SILENT_MS = 8_000;
const STARTED_WITHIN_MS = 240_000;
const STORED_WITHIN_MS = 600_000;

/**
 * Replays a data set with its labels through Kafka and the roles scoring and merchants, twice each, and sink, while
 * they are killed and stopped, then compares what ClickHouse has with the trainer and with SQL.
 */
export async function parityRun(options: ParityRunOptions): Promise<ParityRun> {
  const {
    kafka,
    clickhouse: config,
    prefix,
    partitions,
    dataset,
    kills,
    stops,
    calmMs,
    random,
    progress = () => {},
  } = options;
  const system = await TestSystem.open({ kafka, prefix, partitions });
  const clickhouse = createClickHouse(config);
  // A worker waits for long until a merchants' process that was killed is replaced.
  Object.assign(system.further, {
    CLICKHOUSE_URL: config.url,
    CLICKHOUSE_USER: config.username,
    CLICKHOUSE_PASSWORD: config.password,
    CLICKHOUSE_DATABASE: config.database,
    SNAPSHOT_EVERY: "PT2S",
    MERCHANT_WAIT_MS: "30000",
  });
  const sink = new RoleProcess("sink", system.settings);
  const merchants = new Merchants(() => new RoleProcess("merchants", system.settings), random);
  const abort = new AbortController();
  const trouble = { over: false };
  let replay: Promise<unknown> = Promise.resolve();
  let disturbing: Promise<unknown> = Promise.resolve();
  try {
    await system.register(MODEL, logistic(PARITY_FEATURES));
    await system.deploy(MODEL);
    replay = publish(system, dataset, options.share, trouble, abort.signal);
    disturbing = merchants.disturb(trouble, calmMs);
    for (const promise of [replay, disturbing]) promise.catch(() => {}); // looked at below
    const next = (): number => random.next();
    const killed = await killWorkers(system, { kills, random: next, progress });
    // Moves every partition: the next two take over what these have left.
    await system.stopWorkers();
    const stopped = await stopWorkers(system, { stops, random: next, progress });
    trouble.over = true;
    await disturbing;
    progress(`faults are over: ${JSON.stringify({ killed, stopped, merchants: merchants.counts })}`);
    await replay;
    await system.consumed();
    await stored(clickhouse, dataset.length, sink);
    progress("everything is stored");
    const model = { id: MODEL, features: PARITY_FEATURES };
    return {
      features: await featureParity(config, model),
      windows: await windowParity(config, model),
      kills: killed,
      stops: stopped,
      merchants: merchants.counts,
    };
  } finally {
    abort.abort();
    trouble.over = true;
    await replay.catch(() => {});
    await merchants.kill();
    await disturbing.catch(() => {});
    await sink.kill();
    await system.close();
    await clickhouse.command(`DROP DATABASE IF EXISTS ${config.database}`);
    await clickhouse.close();
  }
}

async function publish(
  { producer, topics }: TestSystem,
  dataset: Dataset,
  share: number,
  trouble: { over: boolean },
  signal: AbortSignal,
): Promise<void> {
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  await replayTransactions({
    rows: slices(dataset, share, trouble),
    schedule: new LabelSchedule(),
    publisher: producer,
    pace: new Pace(null),
    signal,
    topics: { transactions: topics.transactions.name, labels: topics.labels.name },
    encode: {
      transaction: (value) => schemas.encode("transactions", value),
      label: (value) => schemas.encode("labels", value),
    },
  });
}

/** A share of what is left at each tick, so that it never ends while there is trouble. */
async function* slices(dataset: Dataset, share: number, trouble: { over: boolean }): AsyncGenerator<Rows> {
  for (let start = 0; start < dataset.length;) {
    const left = dataset.length - start;
    const end = trouble.over ? dataset.length : start + Math.max(1, Math.floor(left * share));
    yield { dataset, start, end };
    start = end;
    if (!trouble.over) await sleep(TICK_MS);
  }
}

/** Two processes of the role merchants, to which things happen. */
class Merchants {
  readonly counts = { kills: 0, stops: 0 };
  readonly #start: () => RoleProcess;
  readonly #random: RandomSource;
  readonly #roles: RoleProcess[];

  constructor(start: () => RoleProcess, random: RandomSource) {
    this.#start = start;
    this.#random = random;
    this.#roles = [start(), start()];
  }

  /**
   * Kills one after the other with -9 and starts it again; every third is stopped until its partitions are another's,
   * and goes on.
   */
  async disturb(trouble: { readonly over: boolean }, calmMs: number): Promise<void> {
    for (let turn = 0; !trouble.over; turn++) {
      const victim = this.#roles[turn % 2];
      await eventually(
        "the merchants' process has started",
        () => victim.log.some(({ msg }) => msg === "sealing merchants' buckets"),
        STARTED_WITHIN_MS,
      );
      await sleep(calmMs + this.#random.int(4_000));
      if (trouble.over) break;
      if (turn % 3 === 2) {
        victim.send("SIGSTOP");
        await sleep(SILENT_MS);
        victim.send("SIGCONT");
        this.counts.stops++;
      } else {
        await victim.kill();
        this.#roles[turn % 2] = this.#start();
        this.counts.kills++;
      }
    }
  }

  async kill(): Promise<void> {
    for (const role of this.#roles) await role.kill();
  }
}

/** Waits until the sink has stored each transaction's outcome, and its label. */
async function stored(clickhouse: ClickHouse, expected: number, sink: RoleProcess): Promise<void> {
  await eventually(
    "the sink has stored everything",
    async () => {
      if (sink.exit !== null) throw new Error(sink.tail());
      const [row] = await clickhouse.query<{ outcomes: number; labels: number }>(
        "SELECT (SELECT count() FROM predictions FINAL) + (SELECT count() FROM dead_letters FINAL) AS " +
          "outcomes, (SELECT count() FROM labels FINAL) AS labels",
      );
      return row.outcomes >= expected && row.labels >= expected;
    },
    STORED_WITHIN_MS,
  );
}
