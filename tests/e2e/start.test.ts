import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { createClickHouse } from "../../infra/clickhouse/client.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { compiledModule } from "../../infra/package-root.js";
import { simulate } from "../../pipelines/local/simulator/simulate.js";
import type { Label, Prediction, Transaction } from "../../schemas/generated.js";
import { topicsFor, type TopicSpec } from "../../schemas/topics.js";
import { clickhouseConfig, kafkaConfig, uniquePrefix } from "../support/engines.js";

/** One installation: a DATA_DIR, a topic prefix and a database of the test's own, on the run's engines. */
interface Installation {
  dataDir: string;
  topics: ReturnType<typeof topicsFor>;
  /** Runs the compiled `npm start` to its end. */
  start(...args: string[]): Promise<{ code: number | null; output: string }>;
  /** Settings of later starts. */
  settings: Record<string, string>;
  /** Every committed record of a topic, decoded. */
  read<T>(topic: TopicSpec, subject: "transactions" | "predictions" | "labels"): Promise<T[]>;
  /** A query's rows. */
  query(sql: string): Promise<Record<string, unknown>[]>;
}

async function install(): Promise<Installation> {
  const dataDir = await mkdtemp(join(tmpdir(), "fraudstream-e2e-"));
  const prefix = uniquePrefix();
  const topics = topicsFor(prefix, 4);
  const database = uniquePrefix("_");
  const clickhouse = createClickHouse(clickhouseConfig(database));
  const cluster = new KafkaCluster(kafkaConfig(), "e2e");
  onTestFinished(async () => {
    await clickhouse.command(`DROP DATABASE IF EXISTS ${database}`);
    await Promise.all([clickhouse.close(), cluster.close(), rm(dataDir, { recursive: true, force: true })]);
  });
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  const env = {
    ...process.env,
    DATA_DIR: dataDir,
    TOPIC_PREFIX: prefix,
    CLICKHOUSE_DATABASE: database,
    KAFKA_BROKERS: kafkaConfig().brokers.join(","),
    CLICKHOUSE_URL: clickhouseConfig(database).url,
  };
  const settings: Record<string, string> = {};
  return {
    dataDir,
    topics,
    settings,
    start: (...args) =>
      new Promise((resolve, reject) => {
        const child = spawn(process.execPath, [compiledModule("pipelines/local/start/main"), ...args], {
          env: { ...env, ...settings },
          stdio: ["ignore", "pipe", "pipe"],
        });
        let output = "";
        for (const stream of [child.stdout, child.stderr])
          stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
        child.once("error", reject);
        child.once("close", (code) => resolve({ code, output }));
      }),
    async read<T>(topic: TopicSpec, subject: "transactions" | "predictions" | "labels"): Promise<T[]> {
      const values: T[] = [];
      for (let partition = 0; partition < topic.partitions; partition++) {
        const reader = new PartitionReader(cluster, topic.name, partition, { maxWaitMs: 10 });
        const end = await reader.endOffset();
        for (let offset = 0; offset < end;) {
          const records = await reader.fetch(offset);
          for (let i = 0; i < records.count; i++) {
            values.push(
              (await schemas.decode(
                subject,
                records.bytes.subarray(records.valueAt[i], records.valueAt[i] + records.valueLength[i]),
              )) as T,
            );
          }
          offset = records.nextOffset;
        }
        await reader.close();
      }
      return values;
    },
    query: (sql) => clickhouse.query(sql),
  };
}

function sortedIds(values: { transaction_id: string }[]): string[] {
  return values.map(({ transaction_id }) => transaction_id).sort();
}

describe("npm start", () => {
  it(
    "trains, scores simulated payments, and ends with each exactly once on the topic and in ClickHouse; a " +
      "second run goes on",
    { timeout: 240_000 },
    async () => {
      const place = await install();
      for (const run of [1, 2]) {
        const { code, output } = await place.start("--once", "--customers", "500");
        expect(code, output).toBe(0);
        expect(output).toContain("Every transaction has exactly one prediction, on the topic and in ClickHouse.");
        expect(output).toContain(
          run === 1 ? "model simulated@1 is deployed (epoch" : "model simulated@1 is deployed already",
        );

        const transactions = await place.read<Transaction>(place.topics.transactions, "transactions");
        expect(transactions.length).toBeGreaterThanOrEqual(30_000 + run * 20_000);
        expect(transactions.every(({ event_time }) => event_time <= Date.now())).toBe(true);
        const ids = sortedIds(transactions);
        expect(new Set(ids).size).toBe(ids.length);
        const predictions = await place.read<Prediction>(place.topics.predictions, "predictions");
        expect(sortedIds(predictions)).toEqual(ids);
        expect(predictions.every(({ model, score }) => model === "simulated@1" && score >= 0 && score <= 1)).toBe(true);
        expect(sortedIds(await place.read<Label>(place.topics.labels, "labels"))).toEqual(ids);
        for (const table of ["predictions", "labels"]) {
          const stored = await place.query(`SELECT transaction_id FROM ${table} FINAL ORDER BY transaction_id`);
          expect(stored.map((row) => row.transaction_id)).toEqual(ids);
        }
        expect(await place.query("SELECT count() AS n FROM dead_letters")).toEqual([{ n: 0 }]);
      }
      // The training was a job like any other: asked for, and its model enabled, by a user of the API.
      const events = await place.query(
        "SELECT kind, match(who, '^[0-9a-f-]{36}$') AS user FROM control_events FINAL ORDER BY offset",
      );
      expect(events).toEqual([
        { kind: "JobRequested", user: 1 },
        { kind: "JobClaimed", user: 0 },
        { kind: "JobFinished", user: 0 },
        { kind: "ModelRegistered", user: 0 },
        { kind: "Deployed", user: 1 },
      ]);
      const routes = await place.query(
        "SELECT method, route, status < 300 AS done FROM responses FINAL WHERE method != 'GET' ORDER BY at",
      );
      expect(routes).toEqual(
        ["POST /api/v1/tokens", "POST /api/v1/training-jobs", "PUT /api/v1/models/:id/enabled"].map((call) => ({
          method: call.split(" ")[0],
          route: call.split(" ")[1],
          done: 1,
        })),
      );
      // On rows later than all that it was trained on; between .88 and .94 on seven days' towns.
      const { training } = JSON.parse(
        await readFile(join(place.dataDir, "artifacts", "simulated@1", "manifest.json"), "utf8"),
      ) as { training: { to: number } };
      // In pairs: over a join whose sides it swaps, ClickHouse 26.7 gives two groupArrays their rows in different
      // orders.
      const [{ auc, rows }] = await place.query(
        "SELECT arrayROCAUC(pairs.1, pairs.2) AS auc, length(pairs) AS rows FROM (SELECT groupArray((score, " +
          "is_fraud)) AS pairs FROM predictions FINAL INNER JOIN (SELECT card_id, transaction_id, is_fraud " +
          "FROM labels FINAL) AS l USING (card_id, transaction_id) WHERE event_time > " +
          `fromUnixTimestamp64Milli(${training.to}))`,
      );
      expect(rows).toBeGreaterThan(40_000);
      expect(auc).toBeGreaterThan(0.8);
      expect(auc).toBeLessThan(0.99);
      const addresses: unknown = JSON.parse(await readFile(join(place.dataDir, "stack.json"), "utf8"));
      expect(addresses).toMatchObject({
        kafka: kafkaConfig().brokers.join(","),
        clickhouse: clickhouseConfig("x").url,
      });
    },
  );

  it(
    "replays a file under its own ids, counts its last 30%, and refuses the same file again; where nobody " +
      "can sign in, too",
    { timeout: 180_000 },
    async () => {
      const place = await install();
      Object.assign(place.settings, { JWKS_URL: "http://127.0.0.1:1/keys", ADMIN_USERNAME: "ops" });
      const file = join(place.dataDir, "payments.csv");
      const lines = ["transaction_id,event_time,card_id,merchant_id,amount,currency,is_fraud"];
      for (const day of simulate({
        seed: 9,
        customers: 200,
        terminals: 40,
        from: Date.UTC(2025, 0, 1),
        to: Date.UTC(2025, 0, 31),
      })) {
        for (let row = 0; row < day.length; row++) {
          lines.push(
            [
              day.transactionId[row],
              new Date(day.eventTime[row]).toISOString(),
              day.cardId[row],
              day.merchantId[row],
              day.amount[row],
              day.currency[row],
              day.label[row],
            ].join(","),
          );
        }
      }
      await writeFile(file, lines.join("\n"));
      const rows = lines.length - 1;
      const cut = lines[1 + Math.round(rows * 0.7)].split(",")[1];
      const { code, output } = await place.start("--once", "--dataset", file);
      expect(code, output).toBe(0);
      expect(output).toContain("users come from JWKS_URL");
      expect(output).toContain("model payments@1 is deployed");
      const [{ payload }] = await place.query(
        "SELECT payload FROM control_events FINAL WHERE kind = 'JobRequested' AND who = 'system:start'",
      );
      expect(JSON.parse((JSON.parse(String(payload)) as { request: string }).request)).toMatchObject({
        name: "payments",
        before: cut,
        test: null,
      });
      const manifest = JSON.parse(
        await readFile(join(place.dataDir, "artifacts", "payments@1", "manifest.json"), "utf8"),
      ) as { training: { to: number }; test: unknown };
      expect(manifest.training.to).toBe(Date.parse(lines[Math.round(rows * 0.7)].split(",")[1]));
      expect(manifest.test).toBeNull();
      const expected = lines
        .slice(1)
        .map((line) => line.split(",")[0])
        .sort();
      expect(output).toMatch(new RegExp(`published +${(rows - Math.round(rows * 0.7)).toLocaleString("en-US")}\n`));
      expect(sortedIds(await place.read<Prediction>(place.topics.predictions, "predictions"))).toEqual(expected);
      expect(
        (await place.query("SELECT transaction_id FROM predictions FINAL ORDER BY transaction_id")).map(
          (row) => row.transaction_id,
        ),
      ).toEqual(expected);

      const again = await place.start("--once", "--dataset", file);
      expect(again.code).toBe(1);
      expect(again.output).toContain("Use another DATA_DIR");
      expect(again.output.trim().split("\n")).toHaveLength(1);
      expect((await place.read(place.topics.transactions, "transactions")).length).toBe(expected.length);
    },
  );
});
