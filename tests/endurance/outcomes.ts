import type { ClickHouse } from "../../infra/clickhouse/client.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { AvroCursor } from "../../schemas/avro-cursor.js";
import { WIRE_HEAD_BYTES } from "../../schemas/wire-format.js";
import { eventually } from "../support/eventually.js";
import type { TestSystem } from "../support/workers-system.js";
import { PacedLoad } from "./load.js";
import type { SystemUnderLoad } from "./system.js";

export interface Outcomes {
  transactions: number;
  predictions: number;
  shadowPredictions: number;
  deadLetters: number;
  probes: { taken: number; outcomes: number };
  stored: Record<string, number>;
  wrong: string[];
}

interface Counts {
  load: Uint8Array;
  probes: Uint8Array;
  total: number;
  strays: number;
}

/** Every transaction is the load's (`e<n>`) or was asked about over HTTP (`p<n>`). */
const ID = /^([ep])(\d+)$/;
const MOST_TOLD = 5;

/**
 * Counts what came of everything that was published, once the workers are through: in Kafka as a read_committed reader
 * sees it, and in ClickHouse with FINAL.
 *
 * @param asked what was asked over HTTP, by number
 */
export async function countOutcomes(
  under: SystemUnderLoad,
  acknowledged: number,
  asked: readonly { taken: boolean }[],
): Promise<Outcomes> {
  const { system, clickhouse } = under;
  const { topics } = system;
  const wrong: string[] = [];
  const count = (name: string): Promise<Counts> => readIds(system, name, acknowledged, asked.length);
  const [predictions, shadow, dead] = [
    await count(topics.predictions.name),
    await count(topics.shadowPredictions.name),
    await count(topics.deadLetters.name),
  ];
  const complain = (what: string, numbers: number[]): void => {
    if (numbers.length > 0)
      wrong.push(
        `${numbers.length} ${what}: ` +
          `${numbers.slice(0, MOST_TOLD).join(", ")}${numbers.length > MOST_TOLD ? ", …" : ""}`,
      );
  };
  const loadWhere = (test: (n: number) => boolean): number[] => numbersWhere(acknowledged, test);
  complain(
    "good transactions without exactly one prediction",
    loadWhere((n) => !PacedLoad.isBad(n) && (predictions.load[n] !== 1 || dead.load[n] !== 0)),
  );
  complain(
    "bad transactions without exactly one dead letter",
    loadWhere((n) => PacedLoad.isBad(n) && (dead.load[n] !== 1 || predictions.load[n] !== 0)),
  );
  complain(
    "transactions whose shadow prediction is missing or doubled",
    loadWhere((n) => shadow.load[n] !== predictions.load[n]),
  );
  complain(
    "transactions over HTTP that were taken and have not exactly one outcome, or were refused and have more",
    numbersWhere(asked.length, (n) => {
      const outcomes = predictions.probes[n] + dead.probes[n];
      return asked[n].taken ? outcomes !== 1 : outcomes > 1;
    }),
  );
  const strays = predictions.strays + shadow.strays + dead.strays;
  if (strays > 0) wrong.push(`${strays} outcomes of transactions that nobody has published`);
  const expected = {
    predictions: predictions.total,
    shadow_predictions: shadow.total,
    dead_letters: dead.total,
    transactions: await readable(system, acknowledged, asked.length),
  };
  const stored = await countStored(clickhouse, expected, wrong);
  const outcomesOfProbes = asked.reduce((sum, _, n) => sum + predictions.probes[n] + dead.probes[n], 0);
  return {
    transactions: acknowledged,
    predictions: predictions.total,
    shadowPredictions: shadow.total,
    deadLetters: dead.total,
    probes: { taken: asked.filter(({ taken }) => taken).length, outcomes: outcomesOfProbes },
    stored,
    wrong,
  };
}

/** Transactions on the topic that have a row: all but those that were cut off. */
async function readable(system: TestSystem, acknowledged: number, probes: number): Promise<number> {
  const { load, total } = await readIds(system, system.topics.transactions.name, acknowledged, probes);
  return total - numbersWhere(acknowledged, (n) => PacedLoad.isBad(n) && load[n] > 0).length;
}

async function countStored(
  clickhouse: ClickHouse,
  expected: Record<string, number>,
  wrong: string[],
): Promise<Record<string, number>> {
  const counts = async (): Promise<Record<string, number>> => {
    const [row] = await clickhouse.query<Record<string, number>>(
      `SELECT ${Object.keys(expected)
        .map((table) => `(SELECT count() FROM ${table} FINAL) AS ${table}`)
        .join(", ")}`,
    );
    return row;
  };
  await eventually(
    "ClickHouse has everything",
    async () => Object.entries(await counts()).every(([table, count]) => Number(count) >= expected[table]),
    300_000,
  ).catch((error: unknown) => wrong.push(String(error)));
  const stored = await counts();
  for (const [table, count] of Object.entries(stored))
    if (Number(count) !== expected[table])
      wrong.push(`${table} has ${count} rows in ClickHouse; ${expected[table]} are expected`);
  const [ids] = await clickhouse.query<{ ids: number }>(
    "SELECT uniqExact(transaction_id) AS ids FROM predictions FINAL",
  );
  if (Number(ids.ids) !== expected["predictions"])
    wrong.push(`the predictions in ClickHouse are of ${ids.ids} transactions, not of ${expected["predictions"]}`);
  return stored;
}

function numbersWhere(count: number, test: (n: number) => boolean): number[] {
  const found: number[] = [];
  for (let n = 0; n < count; n++) if (test(n)) found.push(n);
  return found;
}

/**
 * How often each id stands in a topic. The id is the first field of transactions and predictions, also of those that
 * are cut off.
 */
async function readIds(system: TestSystem, topic: string, acknowledged: number, probes: number): Promise<Counts> {
  const counts: Counts = { load: new Uint8Array(acknowledged), probes: new Uint8Array(probes), total: 0, strays: 0 };
  const cluster = new KafkaCluster(system.kafka, "endurance-check");
  const cursor = new AvroCursor();
  try {
    for (let partition = 0; partition < (await cluster.partitionsOf(topic)); partition++) {
      const reader = new PartitionReader(cluster, topic, partition, { maxBytes: 4 << 20 });
      const end = await reader.endOffset();
      for (let offset = await reader.firstOffset(); offset < end;) {
        const records = await reader.fetch(offset);
        for (let i = 0; i < records.count; i++) {
          cursor.set(records.bytes, records.valueAt[i] + WIRE_HEAD_BYTES, records.valueAt[i] + records.valueLength[i]);
          const [, kind, number] = ID.exec(cursor.string()) ?? [];
          const of = kind === "e" ? counts.load : counts.probes;
          counts.total += 1;
          if (kind === undefined || Number(number) >= of.length) counts.strays += 1;
          else of[Number(number)] = Math.min(255, of[Number(number)] + 1);
        }
        offset = records.nextOffset;
      }
      await reader.close();
    }
  } finally {
    await cluster.close();
  }
  return counts;
}
