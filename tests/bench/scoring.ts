/**
 * The scoring path on the 1,000,000 Avro transactions of ../shared/peers, exactly once, with our full Prediction record,
 * interleaved with the hand-written Java peer on the same broker, data and model; every run's scores are compared with
 * the peer's, id by id.
 *
 *   npm run bench -- scoring [--runs 3] [--no-peer]
 */
import { join } from "node:path";
import type { BenchContext } from "./support/context.js";
import { startCommand, startRole } from "./support/child.js";
import { BenchCluster } from "./support/cluster.js";
import { Peers } from "./support/peers.js";
import { AvroCursor } from "../../schemas/avro-cursor.js";
import { WIRE_HEAD_BYTES } from "../../schemas/wire-format.js";

const RECORDS = 1_000_000;
const PARTITIONS = 4;
/** Scores of the same model in two builds of onnxruntime. */
const TOLERANCE = 1e-6;

interface Run { who: string; cpuSeconds: number; wallSeconds: number; peakMb: number }

export async function benchScoring(context: BenchContext): Promise<void> {
  const { config, log, print, options } = context;
  const peers = await Peers.prepare(config.dataDir, print);
  const bench = new BenchCluster(context.kafka, "bench-scoring.", PARTITIONS, log);
  try {
    await bench.reset();
    await generate(bench, peers, print);
    const schemasDir = join(config.dataDir, "schemas");
    await peers.writeSchemas(schemasDir);
    const artifact = await peers.artifact(config.artifacts);

    let expected: Map<string, number> | null = null;
    const runs: Run[] = [];
    for (let round = 1; round <= options.runs; round++) {
      if (options.peer) {
        const { run, topic } = await runPeer(bench, peers, config.dataDir, round);
        runs.push(run);
        expected ??= await readScores(bench, topic, readPeerPrediction);
        print(line(run));
      }
      await bench.reset();
      await bench.deploy(artifact, { schemaRegistryUrl: null, schemasDir });
      const run = await runOurs(bench, { ARTIFACTS: config.artifacts, SCHEMAS_DIR: schemasDir }, config.dataDir);
      runs.push(run);
      const scores = await readScores(bench, bench.topics.predictions.name, readOurPrediction);
      const difference = expected === null ? null : compare(scores, expected);
      print(`${line(run)}; ${scores.size} predictions, each id once${difference === null ? "" : `, scores within ${difference.toExponential(1)} of the peer's`}`);
    }
    const ours = median(runs, "fraudstream");
    print(`scoring: ${ours.cpuSeconds.toFixed(1)} CPU-seconds a million (median of ${options.runs}), ${Math.round(RECORDS / ours.wallSeconds).toLocaleString("en")} a second, peak ${ours.peakMb} MB`);
    if (options.peer) {
      const java = median(runs, "plain Java");
      print(`         plain Java ${java.cpuSeconds.toFixed(1)}, ${Math.round(RECORDS / java.wallSeconds).toLocaleString("en")} a second, peak ${java.peakMb} MB; ratio of CPU ${(ours.cpuSeconds / java.cpuSeconds).toFixed(2)}`);
    }
  } finally {
    await bench.close();
  }
}

async function generate(bench: BenchCluster, peers: Peers, print: (line: string) => void): Promise<void> {
  const topic = bench.topics.transactions.name;
  let present = 0;
  await bench.readAll(topic, (records) => (present += records.count));
  if (present === RECORDS) return;
  if (present > 0) throw new Error(`${topic} holds ${present} records, not ${RECORDS}: use another DATA_DIR`);
  print("generating 1,000,000 transactions (about 10 s)");
  await peers.runJava("bench.Gen", "--topic", topic, "--bootstrap", bench.bootstrap);
}

async function runOurs(bench: BenchCluster, env: Record<string, string>, dataDir: string): Promise<Run> {
  const started = performance.now();
  const worker = startRole("pipelines/scoring/main", { KAFKA_BROKERS: bench.bootstrap, TOPIC_PREFIX: bench.prefix, DATA_DIR: dataDir, LOG_LEVEL: "warn", ...env }, join(dataDir, "bench-worker.log"));
  await bench.waitUntilScored();
  const run = { who: "fraudstream", cpuSeconds: worker.cpuSeconds(), wallSeconds: (performance.now() - started) / 1000, peakMb: worker.peakResidentMb() };
  await worker.stop();
  return run;
}

async function runPeer(bench: BenchCluster, peers: Peers, dataDir: string, round: number): Promise<{ run: Run; topic: string }> {
  const topic = `${bench.prefix}java-${Date.now()}-${round}`;
  await peers.runJava("bench.Tool", "create", topic, "--bootstrap", bench.bootstrap);
  const args = ["--in", bench.topics.transactions.name, "--out", topic, "--app", topic, "--guarantee", "exactly_once", "--avro", "raw", "--bootstrap", bench.bootstrap];
  const started = performance.now();
  const peer = startCommand(peers.java("bench.PlainPeer", ...args), peers.folder, {}, join(dataDir, "bench-peer.log"));
  const run = { who: "plain Java", cpuSeconds: 0, wallSeconds: 0, peakMb: 0 };
  const poll = setInterval(() => {
    try {
      run.cpuSeconds = peer.cpuSeconds();
      run.peakMb = Math.max(run.peakMb, peer.peakResidentMb());
    } catch (error) {
      if (peer.child.exitCode === null) throw error;
    }
  }, 50);
  await new Promise((resolve) => peer.child.once("exit", resolve));
  clearInterval(poll);
  run.wallSeconds = (performance.now() - started) / 1000;
  if (peer.child.exitCode !== 0) throw new Error(`the Java peer failed: see ${join(dataDir, "bench-peer.log")}`);
  return { run, topic };
}

async function readScores(bench: BenchCluster, topic: string, read: (cursor: AvroCursor) => [id: string, score: number]): Promise<Map<string, number>> {
  const scores = new Map<string, number>();
  const cursor = new AvroCursor();
  await bench.readAll(topic, (records) => {
    for (let i = 0; i < records.count; i++) {
      cursor.set(records.bytes, records.valueAt[i] + WIRE_HEAD_BYTES, records.valueAt[i] + records.valueLength[i]);
      const [id, score] = read(cursor);
      if (scores.has(id)) throw new Error(`${topic} holds ${id} twice`);
      scores.set(id, score);
    }
  });
  if (scores.size !== RECORDS) throw new Error(`${topic} holds ${scores.size} predictions, not ${RECORDS}`);
  return scores;
}

function readPeerPrediction(cursor: AvroCursor): [string, number] {
  return [cursor.string(), cursor.float()];
}

function readOurPrediction(cursor: AvroCursor): [string, number] {
  const id = cursor.string();
  cursor.skip(cursor.length()); // card
  cursor.skip(cursor.length()); // merchant
  cursor.skip(8); // amount
  cursor.skip(cursor.length()); // currency
  cursor.long(); // event time
  cursor.long(); // scored at
  cursor.skip(4); // scoring milliseconds
  return [id, cursor.float()];
}

function compare(ours: Map<string, number>, expected: Map<string, number>): number {
  let greatest = 0;
  for (const [id, score] of expected) {
    const other = ours.get(id);
    if (other === undefined) throw new Error(`no prediction for ${id}`);
    greatest = Math.max(greatest, Math.abs(other - score));
  }
  if (greatest > TOLERANCE) throw new Error(`a score differs from the peer's by ${greatest}`);
  return greatest;
}

function median(runs: Run[], who: string): Run {
  const own = runs.filter((run) => run.who === who).sort((a, b) => a.cpuSeconds - b.cpuSeconds);
  return own[Math.floor(own.length / 2)];
}

function line({ who, cpuSeconds, wallSeconds, peakMb }: Run): string {
  return `  ${who}: ${cpuSeconds.toFixed(1)} CPU-s, ${wallSeconds.toFixed(1)} s, peak ${peakMb} MB`;
}

