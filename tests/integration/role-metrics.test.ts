import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { expect, onTestFinished, test, vi } from "vitest";
import { compiledModule } from "../../infra/package-root.js";
import { freePorts } from "../../infra/local/ports.js";
import { startTestApi } from "../support/api.js";
import { clickhouseConfig, kafkaConfig, uniquePrefix } from "../support/engines.js";
import { logistic } from "../support/models.js";
import { cardIn, transaction, transactionRecord } from "../support/transactions.js";
import { eventually } from "../support/eventually.js";
import { RoleProcess } from "../support/workers.js";
import { TestSystem } from "../support/workers-system.js";

vi.setConfig({ testTimeout: 150_000 });

/** Prometheus' text format, by series. */
function parsed(text: string): Map<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]),
  );
}

/** Some series; those that are missing are undefined. */
function picked(series: Map<string, number>, names: readonly string[]): Record<string, number | undefined> {
  return Object.fromEntries(names.map((name) => [name, series.get(name)]));
}

test("every role reports its work: counts, batch sizes, latencies, lag, epochs and swaps", async () => {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix(), partitions: 2 });
  onTestFinished(() => system.close());
  const api = await startTestApi({ prefix: system.prefix, settings: { ARTIFACTS: system.artifacts } });
  const first = await freePorts(20_000 + (process.pid % 10_000), 3);
  const clickhouse = clickhouseConfig(api.database);
  const start = (role: "scoring" | "sink" | "training", at: number): RoleProcess => {
    const process = new RoleProcess(role, {
      ...system.settings,
      METRICS_PORT: String(first + at),
      CLICKHOUSE_URL: clickhouse.url,
      CLICKHOUSE_USER: clickhouse.username,
      CLICKHOUSE_PASSWORD: clickhouse.password,
      CLICKHOUSE_DATABASE: api.database,
      DATA_DIR: system.artifacts,
    });
    onTestFinished(() => process.kill());
    return process;
  };
  const [scoring, sink, training] = [start("scoring", 0), start("sink", 1), start("training", 2)];
  await Promise.all([
    scoring.logged("scoring"),
    sink.logged("storing in ClickHouse"),
    training.logged("waiting for training jobs"),
  ]);
  const ask = (at: number, path: string, method = "GET"): Promise<Response> =>
    fetch(`http://127.0.0.1:${first + at}${path}`, { method });
  const metrics = async (at: number): Promise<Map<string, number>> => parsed(await (await ask(at, "/metrics")).text());

  // Without a champion a scoring worker is alive, and not ready.
  expect(
    await Promise.all(
      [0, 1, 2].map(async (at) => [(await ask(at, "/health/live")).status, (await ask(at, "/health/ready")).status]),
    ),
  ).toEqual([
    [200, 503],
    [200, 200],
    [200, 200],
  ]);
  expect([(await ask(0, "/elsewhere")).status, (await ask(0, "/metrics", "POST")).status]).toEqual([404, 405]);
  expect((await metrics(0)).get("fraudstream_scoring_epoch")).toBe(-1);

  const epochs: number[] = [];
  for (const model of ["m@1", "m@2"]) {
    await system.register(model, logistic());
    const enabled = await api.inject("operator", {
      method: "PUT",
      url: `/api/v1/models/${model}/enabled`,
      payload: { enabled: true, role: "champion" },
    });
    expect(enabled.statusCode).toBe(200);
    epochs.push(enabled.json<{ epoch: number }>().epoch);
  }
  const records = Array.from({ length: 20 }, (_, i) => transactionRecord(transaction(i, { card_id: cardIn(0, 2, i) })));
  await system.publishTo(0, [...records, { key: Buffer.from("x"), value: Buffer.from("{no transaction") }]);
  await system.consumed();

  expect((await ask(0, "/health/ready")).status).toBe(200);
  const worker = await metrics(0);
  const batches = worker.get("fraudstream_scoring_batch_records_count") ?? 0;
  expect(batches).toBeGreaterThan(0);
  expect(
    picked(worker, [
      "fraudstream_scoring_transactions_total",
      "fraudstream_scoring_batch_records_sum",
      "fraudstream_scoring_epoch",
      "fraudstream_scoring_partitions",
      "fraudstream_scoring_problems",
      "fraudstream_scoring_swap_seconds_count",
      "fraudstream_scoring_latency_seconds_count",
      'fraudstream_scoring_batch_records_bucket{le="+Inf"}',
    ]),
  ).toEqual({
    fraudstream_scoring_transactions_total: 20,
    fraudstream_scoring_batch_records_sum: 21,
    fraudstream_scoring_epoch: epochs[1],
    fraudstream_scoring_partitions: 2,
    fraudstream_scoring_problems: 0,
    fraudstream_scoring_swap_seconds_count: 2,
    fraudstream_scoring_latency_seconds_count: batches,
    'fraudstream_scoring_batch_records_bucket{le="+Inf"}': batches,
  });
  const rejected = [...worker].filter(([name]) => name.startsWith("fraudstream_scoring_dead_letters_total{"));
  expect(rejected.map(([, value]) => value)).toEqual([1]);
  for (const name of ["batch_seconds", "latency_seconds", "swap_seconds"])
    expect(worker.get(`fraudstream_scoring_${name}_sum`)).toBeGreaterThan(0);

  const stored = await eventually("the sink has stored them", async () => {
    const series = await metrics(1);
    return (
      series.get('fraudstream_sink_rows_total{table="predictions"}') === 20 &&
      series.get('fraudstream_sink_rows_total{table="dead_letters"}') === 1 &&
      series
    );
  });
  expect(
    picked(stored, ['fraudstream_sink_block_rows_sum{table="predictions"}', "fraudstream_sink_clickhouse_up"]),
  ).toEqual({ 'fraudstream_sink_block_rows_sum{table="predictions"}': 20, fraudstream_sink_clickhouse_up: 1 });
  expect(stored.get('fraudstream_sink_insert_seconds_sum{table="predictions"}')).toBeGreaterThan(0);
  expect(picked(await metrics(2), ["fraudstream_training_busy", "fraudstream_training_percent"])).toEqual({
    fraudstream_training_busy: 0,
    fraudstream_training_percent: undefined,
  });

  const { transactions, predictions } = system.topics;
  const expected = {
    [`fraudstream_scoring_lag{topic="${transactions.name}",partition="0"}`]: 0,
    [`fraudstream_sink_lag{topic="${predictions.name}",partition="1"}`]: 0,
    fraudstream_deployment_epoch: epochs[1],
    'fraudstream_partition_epoch{partition="0"}': epochs[1],
    'fraudstream_workers{role="scoring"}': 1,
    fraudstream_deployment_swap_seconds_count: 2,
    'fraudstream_training_jobs{status="pending"}': 0,
  };
  const told = await eventually("the lag is told", async () => {
    const series = parsed((await api.inject(null, { url: "/metrics" })).body);
    return series.has(Object.keys(expected)[0]) && series;
  });
  expect(picked(told, Object.keys(expected))).toEqual(expected);
  expect(told.get("fraudstream_deployment_swap_seconds_sum")).toBeGreaterThan(0);
  for (const process of [scoring, sink, training]) expect(await process.stop()).toEqual({ code: 0, signal: null });

  // What isn't consumed is behind. The page is rendered once a second for all readers, so the first answer may be the
  // former one.
  await system.publishTo(0, records);
  await eventually(
    "the lag is 20",
    async () => {
      const behind = parsed((await api.inject(null, { url: "/metrics" })).body).get(Object.keys(expected)[0]);
      return behind === 20;
    },
    10_000,
  );
});

test("a METRICS_PORT in use is reported in one line", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const role = new RoleProcess("training", {
    KAFKA_BROKERS: kafkaConfig().brokers.join(","),
    TOPIC_PREFIX: uniquePrefix(),
    METRICS_PORT: String(port),
    LOG_LEVEL: "error",
  });
  onTestFinished(() => role.kill());
  expect(await role.ended).toEqual({ code: 1, signal: null });
  expect(role.log.map(({ msg }) => msg)).toEqual([
    `METRICS_PORT ${port} on 127.0.0.1 is taken by another process: stop it, or set METRICS_PORT to a free one`,
  ]);
});

test("roles keep trying an unreachable Kafka or ClickHouse and say so in one line; commands end with one", async () => {
  const { CLICKHOUSE_URL, ...kafka } = {
    KAFKA_BROKERS: kafkaConfig().brokers.join(","),
    CLICKHOUSE_URL: clickhouseConfig("x").url,
  };
  const away = { TOPIC_PREFIX: uniquePrefix(), KAFKA_BROKERS: "127.0.0.1:1", CLICKHOUSE_URL };
  // The last two name each other's address: nothing that is there, in the other's protocol.
  const roles = [
    new RoleProcess("sink", away),
    new RoleProcess("scoring", away),
    new RoleProcess("sink", { ...away, ...kafka, CLICKHOUSE_URL: "http://nowhere.invalid:8123" }),
    new RoleProcess("merchants", { ...away, KAFKA_BROKERS: new URL(CLICKHOUSE_URL).host }),
    new RoleProcess("sink", { ...away, ...kafka, CLICKHOUSE_URL: `http://${kafkaConfig().brokers[0]}` }),
  ];
  onTestFinished(async () => void (await Promise.all(roles.map((role) => role.kill()))));
  const said = await Promise.all(
    roles.map((role) =>
      eventually(`${role.role} says it`, () => role.log.find(({ msg }) => msg.endsWith("It is tried again"))?.msg),
    ),
  );
  expect(said.map((line) => line.slice(0, line.indexOf("): is ")))).toEqual([
    "KAFKA_BROKERS is 127.0.0.1:1, where no Kafka broker can be reached (ECONNREFUSED: nothing listens on that port",
    "KAFKA_BROKERS is 127.0.0.1:1, where no Kafka broker can be reached (ECONNREFUSED: nothing listens on that port",
    expect.stringMatching(
      /^CLICKHOUSE_URL is http:\/\/nowhere\.invalid:8123, where no ClickHouse can be reached \(E/,
    ) as string,
    expect.stringMatching(
      /^KAFKA_BROKERS is .* \(it (answers in HTTP: that is no Kafka broker|closes the connection)/,
    ) as string,
    expect.stringMatching(
      /^CLICKHOUSE_URL is .* \(it (closes the connection; it may be no ClickHouse|does not answer in HTTP)/,
    ) as string,
  ]);
  expect(await Promise.all(roles.map((role) => role.stop()))).toEqual(roles.map(() => ({ code: 0, signal: null })));

  const commands = [
    ["pipelines/local/replay/main", "x.csv"],
    ["infra/kafka/access-command", "--apply"],
    ["pipelines/training/train-file", "--register", "x.csv"],
  ];
  for (const ended of await Promise.all(
    commands.map(([module, ...args]) => runsTo(compiledModule(module), args, away)),
  )) {
    expect(ended).toEqual({
      code: 1,
      lines: [
        expect.stringMatching(/^KAFKA_BROKERS is 127\.0\.0\.1:1, where no Kafka broker can be reached/) as string,
      ],
    });
  }
});

async function runsTo(
  module: string,
  args: readonly string[],
  settings: Record<string, string>,
): Promise<{ code: number | null; lines: string[] }> {
  const child = spawn(process.execPath, [module, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, ...settings },
  });
  let text = "";
  child.stderr.setEncoding("utf8").on("data", (part: string) => (text += part));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, lines: text.split("\n").filter((line) => line !== "") };
}
