import { BatchProducer, partitionOf, type OutgoingRecord } from "../../../infra/kafka/batch-producer.js";
import { Schemas } from "../../../infra/kafka/schemas.js";
import type { BenchCluster } from "./cluster.js";

const MILLION = 1_000_000;
const MERCHANTS = 100_000;
const BATCH = 5_000;
const DAY_MS = 86_400_000;
const START = Date.UTC(2025, 0, 1);

/**
 * A million transactions at 100,000 merchants, with ids that no other round has: each card as often as any other.
 *
 * @param round from 0: they follow those of the round before, in so many days of event time
 */
export async function publishMillion(
  bench: BenchCluster,
  { cards, round, days }: { cards: number; round: number; days: number },
): Promise<void> {
  const { name, partitions } = bench.topics.transactions;
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  const producer = await BatchProducer.open(bench.cluster);
  const sending: Promise<unknown>[] = [];
  const open: OutgoingRecord[][] = Array.from({ length: partitions }, () => []);
  const send = (partition: number): void => {
    sending.push(producer.publishTo(name, partition, open[partition]));
    open[partition] = [];
  };
  for (let i = 0; i < MILLION; i++) {
    const n = round * MILLION + i;
    // Not in the order of their numbers.
    const card_id = `card-${((i * 7_919 + round * 31) % cards).toString().padStart(7, "0")}`;
    const event_time = START + Math.floor((n / MILLION) * days * DAY_MS);
    const key = Buffer.from(card_id);
    const partition = partitionOf(key, partitions);
    open[partition].push({
      key,
      value: schemas.encode("transactions", {
        transaction_id: `transaction-${n}`,
        event_time,
        card_id,
        merchant_id: `merchant-${(n * 104_729) % MERCHANTS}`,
        amount: (n % 1_000) / 4,
        currency: "EUR",
        attributes: {},
      }),
    });
    if (open[partition].length < BATCH) continue;
    send(partition);
    if (sending.length > 4) await sending.shift();
  }
  open.forEach((records, partition) => records.length > 0 && send(partition));
  await Promise.all(sending);
  await producer.close();
}
