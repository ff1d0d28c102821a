/**
 * The merchants role on 2,000,000 transactions of a million merchants in two weeks, so that one week is sealed and one
 * is held; then a worker's board on what was published. Checks that every sealed transaction is counted once.
 *
 *   npm run bench -- merchants
 */
import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import { BatchProducer, type OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { ensureTopics } from "../../infra/kafka/client.js";
import { BUCKET_MS, LABEL_DELAY_MS } from "../../models/features/history-terms.js";
import { MerchantBoard } from "../../pipelines/scoring/merchant-board.js";
import { BUCKET_ENTITY, BucketRecordReader } from "../../pipelines/runtime/bucket-records.js";
import { RandomSource } from "../support/random-source.js";
import { startRole } from "./support/child.js";
import { BenchCluster } from "./support/cluster.js";
import type { BenchContext } from "./support/context.js";

const RECORDS = 2_000_000;
const MERCHANTS = 1_000_000;
const CARDS = 300_000;
const PARTITIONS = 4;
const START = Date.UTC(2026, 0, 1);
const SPAN_MS = 14 * 24 * BUCKET_MS;
/** One of so many is a fraud, known a week later. */
const FRAUD_EVERY = 200;
const BATCH = 5_000;

const eventTime = (n: number): number => START + Math.floor((n / RECORDS) * SPAN_MS);

export async function benchMerchants({ config, kafka, log, print }: BenchContext): Promise<void> {
  const bench = new BenchCluster(kafka, `bench-merchants-${process.pid}.`, PARTITIONS, log);
  const { topics } = bench;
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  try {
    await ensureTopics(bench.kafka, Object.values(topics));
    await publish(bench, schemas);
    const env = {
      KAFKA_BROKERS: kafka.brokers.join(","),
      TOPIC_PREFIX: bench.prefix,
      TOPIC_PARTITIONS: String(PARTITIONS),
      DATA_DIR: join(config.dataDir, `merchants-${process.pid}`),
      LOG_LEVEL: "info",
    };
    const started = performance.now();
    const role = startRole("pipelines/merchants/main", env, join(config.dataDir, "merchants.log"));
    const to = await sealed(bench, schemas, Math.floor((eventTime(RECORDS - 1) - LABEL_DELAY_MS) / BUCKET_MS));
    const seconds = (performance.now() - started) / 1000;
    print(
      `merchants: ${((role.cpuSeconds() * 1e6) / RECORDS).toFixed(1)} CPU-seconds a million transactions, ` +
        `start-up included; ${Math.round(RECORDS / seconds).toLocaleString("en")} a second; peak ` +
        `${role.peakResidentMb()} MB with ${MERCHANTS.toLocaleString("en")} merchants, ` +
        `${(RECORDS / 2).toLocaleString("en")} transactions unsealed`,
    );
    const resident = role.residentMb();
    await role.stop();

    const before = process.cpuUsage();
    const board = new MerchantBoard({
      cluster: bench.cluster,
      topics,
      schemas,
      log,
      onFailure: (error) => log.error(error),
    });
    const loading = performance.now();
    await board.start();
    const { user, system } = process.cpuUsage(before);
    print(
      `           resident ${resident} MB; a worker's board of it: ` +
        `${Math.round(board.windows.bytes / 2 ** 20)} MB, read in ` +
        `${((performance.now() - loading) / 1000).toFixed(1)} s, ${((user + system) / 1e6).toFixed(1)} ` +
        `CPU-seconds; complete to ${new Date(board.windows.complete * BUCKET_MS).toISOString()}`,
    );
    await board.stop();
    await check(bench, schemas, to, print);
  } finally {
    await bench.close();
  }
}

async function publish(bench: BenchCluster, schemas: Schemas): Promise<void> {
  const random = new RandomSource(1);
  const producer = await BatchProducer.open(bench.cluster);
  const sending: Promise<void>[] = [];
  const send = async (topic: string, records: OutgoingRecord[]): Promise<void> => {
    sending.push(producer.publish(topic, records));
    if (sending.length > 3) await sending.shift();
  };
  const cards = Array.from({ length: RECORDS / FRAUD_EVERY }, () => `card-${random.int(CARDS)}`);
  const labels = cards.map((card_id, i) => {
    const label = {
      transaction_id: `transaction-${i * FRAUD_EVERY}`,
      card_id,
      is_fraud: true,
      label_time: eventTime(i * FRAUD_EVERY) + LABEL_DELAY_MS,
    };
    return { key: Buffer.from(card_id), value: schemas.encode("labels", label) };
  });
  await send(bench.topics.labels.name, labels);
  for (let from = 0; from < RECORDS; from += BATCH) {
    await send(
      bench.topics.transactions.name,
      Array.from({ length: BATCH }, (_, i) => {
        const n = from + i;
        const card_id = n % FRAUD_EVERY === 0 ? cards[n / FRAUD_EVERY] : `card-${random.int(CARDS)}`;
        const value = {
          transaction_id: `transaction-${n}`,
          event_time: eventTime(n),
          card_id,
          merchant_id: `merchant-${(n * 7_919) % MERCHANTS}`,
          amount: 10,
          currency: "EUR",
          attributes: {},
        };
        return { key: Buffer.from(card_id), value: schemas.encode("transactions", value) };
      }),
    );
  }
  await Promise.all(sending);
  await producer.close();
}

/** Waits until every partition is sealed to about there. */
async function sealed(bench: BenchCluster, schemas: Schemas, bucket: number): Promise<number> {
  const board = new MerchantBoard({
    cluster: bench.cluster,
    topics: bench.topics,
    schemas,
    log: { info: () => {} } as never,
    onFailure: () => {},
  });
  await board.start();
  // The last transactions of a partition may lie in the hour before.
  while (!(await board.waitFor(bucket - 1, 600_000, new AbortController().signal))) await sleep(100);
  const { complete } = board.windows;
  await board.stop();
  return complete;
}

async function check(
  bench: BenchCluster,
  schemas: Schemas,
  complete: number,
  print: (line: string) => void,
): Promise<void> {
  const records = new BucketRecordReader(schemas.idOf("merchantBuckets"));
  const found = { transactions: 0, frauds: 0, ofCards: 0 };
  await bench.readAll(bench.topics.merchantBuckets.name, (fetched) =>
    records.read(fetched, (entity, _bytes, _at, _length, bucket, _partition, count, frauds) => {
      if (bucket >= complete) return;
      if (entity === BUCKET_ENTITY.merchant) {
        found.transactions += count;
        found.frauds += frauds;
      } else if (entity === BUCKET_ENTITY.card) found.ofCards += frauds;
    }),
  );
  const expected = { transactions: 0, frauds: 0 };
  for (let n = 0; eventTime(n) < complete * BUCKET_MS; n++) {
    expected.transactions++;
    if (n % FRAUD_EVERY === 0) expected.frauds++;
  }
  if (
    found.transactions !== expected.transactions ||
    found.frauds !== expected.frauds ||
    found.ofCards !== expected.frauds
  )
    throw new Error(`${JSON.stringify(found)} published, not ${JSON.stringify(expected)}`);
  print(
    `           ${found.transactions.toLocaleString("en")} sealed transactions and their ${found.frauds} ` +
      "frauds counted once",
  );
}
