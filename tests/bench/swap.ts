/**
 * Deploying a model while 5,000 transactions a second flow, through the API, time and again from one model to another:
 * the longest gap in the predictions around each deployment, beside that of an equally long stretch without one just
 * before it; and that no prediction of an older epoch is written after the API's answer.
 *
 * A gap is the time between two predictions: by the records' timestamps, which the worker sets when it commits, and by
 * arrival at a read_committed reader in this process; over all partitions, and within each (the largest of them).
 *
 *   npm run bench -- swap
 */
import { loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { BatchProducer, type OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { AvroCursor } from "../../schemas/avro-cursor.js";
import { WIRE_HEAD_BYTES } from "../../schemas/wire-format.js";
import type { BenchContext } from "./support/context.js";
import { ControlPlane, quantile } from "./support/control-plane.js";

const RATE = 5_000;
const TICK_MS = 5;
const WARM_SECONDS = 20;
const SWAPS = 15;
const CALM_MS = 1_500;
/** What a deployment could still delay after its answer. */
const AFTERMATH_MS = 500;
const MODELS = ["peers@1", "peers@2"];

/** Predictions that were committed together: times in epoch milliseconds. */
interface Seen {
  partition: number;
  epoch: number;
  timestamp: number;
  lastOffset: number;
  arrival: number;
}
interface Swap {
  epoch: number;
  sent: number;
  answered: number;
  ends: number[];
}
interface Stretch {
  from: number;
  to: number;
}

export async function benchSwap(context: BenchContext): Promise<void> {
  const { print, options } = context;
  const plane = await ControlPlane.start(context, "swap", MODELS);
  try {
    for (let run = 1; run <= options.runs; run++) await measure(plane, print);
  } finally {
    await plane.stop();
  }
}

async function measure(plane: ControlPlane, print: (line: string) => void): Promise<void> {
  const { bench } = plane;
  const { name, partitions } = bench.topics.predictions;
  const abort = new AbortController();
  const seen: Seen[] = [];
  const producer = await BatchProducer.open(bench.cluster);
  const reading = Array.from({ length: partitions }, (_, partition) =>
    readPredictions(plane, partition, seen, abort.signal),
  );
  const producing = produce(plane, producer, abort.signal);
  const asking = Array.from(
    { length: partitions },
    (_, partition) => new PartitionReader(bench.cluster, name, partition),
  );
  const swaps: Swap[] = [];
  try {
    await sleep(WARM_SECONDS * 1_000);
    for (let i = 1; i <= SWAPS; i++) {
      await sleep(CALM_MS + AFTERMATH_MS * 2);
      const sent = Date.now();
      const epoch = await plane.enable(MODELS[i % 2]);
      const answered = Date.now();
      swaps.push({ epoch, sent, answered, ends: await Promise.all(asking.map((reader) => reader.endOffset())) });
    }
    await sleep(AFTERMATH_MS + 1_000);
  } finally {
    abort.abort();
    await Promise.all([producing, ...reading]);
    await Promise.all(asking.map((reader) => reader.close()));
    await producer.close();
  }
  const late = swaps.reduce((count, swap) => count + checkOlder(swap, seen), 0);
  const stretches = (start: (swap: Swap) => number): Stretch[] =>
    swaps.map((swap) => ({ from: start(swap), to: start(swap) + (swap.answered - swap.sent) + AFTERMATH_MS }));
  const answers = Float64Array.from(swaps, ({ sent, answered }) => answered - sent).sort();
  print(
    `swap: ${SWAPS} deployments at ${RATE.toLocaleString("en")} a second, answered in ${range(answers)} ms; ` +
      `${late} predictions of an older epoch after the answer; load ${loadavg()[0].toFixed(1)}`,
  );
  for (const [what, start] of [
    ["with a deployment", (swap: Swap) => swap.sent],
    ["just before, without", (swap: Swap) => swap.sent - CALM_MS],
  ] as const) {
    const gaps = stretches(start).map((stretch) => gapsIn(seen, stretch, partitions));
    const of = (kind: keyof Gaps): string => range(Float64Array.from(gaps, (gap) => gap[kind]).sort());
    print(
      `  longest gap ${what.padEnd(21)}: committed ${of("committed")} ms (a partition ` +
        `${of("committedPartition")}), arrived ${of("arrived")} (a partition ${of("arrivedPartition")})`,
    );
  }
}

/** Median and largest of sorted numbers. */
function range(sorted: Float64Array): string {
  return `${quantile(sorted, 0.5).toFixed(0)}, at most ${quantile(sorted, 1).toFixed(0)}`;
}

interface Gaps {
  committed: number;
  committedPartition: number;
  arrived: number;
  arrivedPartition: number;
}

/** The longest gaps that touch a stretch of time. */
function gapsIn(seen: readonly Seen[], { from, to }: Stretch, partitions: number): Gaps {
  const near = seen.filter(({ timestamp, arrival }) => arrival >= from - 5_000 && timestamp <= to + 5_000);
  const longest = (records: readonly Seen[], timeOf: (record: Seen) => number): number => {
    const times = Float64Array.from(records, timeOf).sort();
    let gap = 0;
    for (let i = 1; i < times.length; i++)
      if (times[i] >= from && times[i - 1] <= to) gap = Math.max(gap, times[i] - times[i - 1]);
    return gap;
  };
  const committed = ({ timestamp }: Seen): number => timestamp;
  const arrived = ({ arrival }: Seen): number => arrival;
  const each = (timeOf: (record: Seen) => number): number =>
    Math.max(
      ...Array.from({ length: partitions }, (_, partition) =>
        longest(
          near.filter((record) => record.partition === partition),
          timeOf,
        ),
      ),
    );
  return {
    committed: longest(near, committed),
    committedPartition: each(committed),
    arrived: longest(near, arrived),
    arrivedPartition: each(arrived),
  };
}

/** How many predictions' batches of an older epoch were committed, or stand in the log, after the answer. */
function checkOlder({ epoch, answered, ends }: Swap, seen: readonly Seen[]): number {
  return seen.filter(
    (record) => record.epoch < epoch && (record.timestamp > answered || record.lastOffset >= ends[record.partition]),
  ).length;
}

async function produce(plane: ControlPlane, producer: BatchProducer, signal: AbortSignal): Promise<void> {
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  const attributes = Object.fromEntries(Array.from({ length: 28 }, (_, i) => [`v${i + 1}`, Math.sin(i)]));
  const started = performance.now();
  const inFlight = new Set<Promise<void>>();
  let sent = 0;
  while (!signal.aborted) {
    const due = Math.floor(((performance.now() - started) / 1000) * RATE);
    const records: OutgoingRecord[] = [];
    for (; sent < due; sent++) {
      const card = `card_${(sent * 7919) % 50_000}`;
      records.push({
        key: Buffer.from(card),
        value: schemas.encode("transactions", {
          transaction_id: `s${started.toFixed(0)}-${sent}`,
          event_time: Date.now(),
          card_id: card,
          merchant_id: `m_${sent % 5_000}`,
          amount: (sent % 1_000) / 10,
          currency: "EUR",
          attributes,
        }),
      });
    }
    if (records.length > 0) {
      const publishing: Promise<void> = producer
        .publish(plane.bench.topics.transactions.name, records)
        .finally(() => inFlight.delete(publishing));
      inFlight.add(publishing);
    }
    await sleep(TICK_MS);
  }
  await Promise.all(inFlight);
}

async function readPredictions(
  { bench }: ControlPlane,
  partition: number,
  seen: Seen[],
  signal: AbortSignal,
): Promise<void> {
  const reader = new PartitionReader(bench.cluster, bench.topics.predictions.name, partition, { signal });
  const cursor = new AvroCursor();
  const onAbort = (): void => void reader.close();
  signal.addEventListener("abort", onAbort);
  try {
    for (let offset = await reader.endOffset(); !signal.aborted;) {
      const records = await reader.fetch(offset);
      const arrival = Date.now();
      for (let i = 0; i < records.count; i++) {
        cursor.set(records.bytes, records.valueAt[i] + WIRE_HEAD_BYTES, records.valueAt[i] + records.valueLength[i]);
        const epoch = epochOf(cursor);
        const timestamp = records.timestamp[i];
        const last = seen.at(-1);
        if (last?.partition === partition && last.epoch === epoch && last.timestamp === timestamp)
          last.lastOffset = records.offset[i];
        else seen.push({ partition, epoch, timestamp, lastOffset: records.offset[i], arrival });
      }
      offset = records.nextOffset;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

function epochOf(cursor: AvroCursor): number {
  for (let i = 0; i < 3; i++) cursor.skip(cursor.length()); // transaction, card, merchant
  cursor.skip(8); // amount
  cursor.skip(cursor.length()); // currency
  for (let i = 0; i < 2; i++) cursor.long(); // event time, scored at
  cursor.skip(8); // scoring milliseconds, score
  cursor.long(); // decision
  cursor.skip(cursor.length()); // model
  return cursor.long();
}
