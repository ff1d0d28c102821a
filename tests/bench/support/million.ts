import { join } from "node:path";
import { AvroCursor } from "../../../schemas/avro-cursor.js";
import { WIRE_HEAD_BYTES } from "../../../schemas/wire-format.js";
import type { BenchContext } from "./context.js";
import { startCommand, startRole, type MeasuredProcess } from "./child.js";
import { BenchCluster } from "./cluster.js";
import { Peers } from "./peers.js";

export const RECORDS = 1_000_000;
const PARTITIONS = 4;
/** Scores of the same model in two builds of onnxruntime. */
const TOLERANCE = 1e-6;

/** What one run took; `records` of the million were scored. */
export interface Run {
  who: string;
  records: number;
  cpuSeconds: number;
  wallSeconds: number;
  peakMb: number;
}

type ReadPrediction = (cursor: AvroCursor) => [id: string, score: number];

/**
 * The 1,000,000 transactions of tests/bench/peers in a topic, and who scores them: our workers, or a program of the
 * peers'.
 */
export class Million {
  readonly #context: BenchContext;
  readonly #env: Record<string, string>;
  /** Of the first run that is read: what all others are held to, id by id. */
  #expected: Map<string, number> | null = null;

  private constructor(
    context: BenchContext,
    readonly bench: BenchCluster,
    readonly peers: Peers,
    env: Record<string, string>,
  ) {
    this.#context = context;
    this.#env = env;
  }

  static async prepare(context: BenchContext): Promise<Million> {
    const { config, log, print } = context;
    const peers = await Peers.prepare(config.dataDir, print);
    const bench = new BenchCluster(context.kafka, "bench-scoring.", PARTITIONS, log);
    await bench.reset();
    await generate(bench, peers, print);
    const schemasDir = join(config.dataDir, "schemas");
    await peers.writeSchemas(schemasDir);
    return new Million(context, bench, peers, { ARTIFACTS: config.artifacts, SCHEMAS_DIR: schemasDir });
  }

  /**
   * Our scoring role, exactly once, from its start to the last committed offset. @returns the greatest difference of a
   * score, too; null: the first run
   */
  async ours(who: string, workers = 1): Promise<{ run: Run; difference: number | null }> {
    const { config } = this.#context;
    const { bench } = this;
    await bench.reset();
    await bench.deploy(await this.peers.artifact(config.artifacts), {
      schemaRegistryUrl: null,
      schemasDir: this.#env.SCHEMAS_DIR,
    });
    const started = performance.now();
    const roles = Array.from({ length: workers }, (_, i) =>
      startRole(
        "pipelines/scoring/main",
        {
          KAFKA_BROKERS: bench.bootstrap,
          TOPIC_PREFIX: bench.prefix,
          DATA_DIR: join(config.dataDir, `worker-${i}`),
          LOG_LEVEL: "warn",
          ...this.#env,
        },
        join(config.dataDir, `bench-worker-${i}.log`),
      ),
    );
    await bench.waitUntilScored();
    const run: Run = {
      who,
      records: RECORDS,
      cpuSeconds: sum(roles, (role) => role.cpuSeconds()),
      wallSeconds: (performance.now() - started) / 1000,
      peakMb: sum(roles, (role) => role.peakResidentMb()),
    };
    await Promise.all(roles.map((role) => role.stop()));
    return { run, difference: await this.#check(bench.topics.predictions.name, readOurPrediction, RECORDS) };
  }

  /** A program of the peers' that reads the topic, writes to another and ends. @param args for these topics */
  async program(
    who: string,
    command: (topics: {
      input: string;
      output: string;
    }) => [command: string, args: string[], env: Record<string, string>],
    records = RECORDS,
  ): Promise<{ run: Run; difference: number | null }> {
    const { bench, peers } = this;
    const { dataDir } = this.#context.config;
    const output = `${bench.prefix}peer-${Date.now()}`;
    await peers.runJava("bench.Tool", "create", output, "--bootstrap", bench.bootstrap);
    const [program, args, env] = command({ input: bench.topics.transactions.name, output });
    const logFile = join(dataDir, "bench-peer.log");
    const started = performance.now();
    const peer = startCommand([program, args], peers.folder, env, logFile);
    const run: Run = { who, records, cpuSeconds: 0, wallSeconds: 0, peakMb: 0 };
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
    if (peer.child.exitCode !== 0) throw new Error(`${who} failed: see ${logFile}`);
    const difference = await this.#check(output, readPeerPrediction, records);
    await peers.runJava("bench.Tool", "delete", output, "--bootstrap", bench.bootstrap);
    return { run, difference };
  }

  close(): Promise<void> {
    return this.bench.close();
  }

  /** A peer that stops by itself after so many records may have scored some more by then. */
  async #check(topic: string, read: ReadPrediction, records: number): Promise<number | null> {
    const scores = await readScores(this.bench, topic, read);
    if (records === RECORDS ? scores.size !== records : scores.size < records)
      throw new Error(`${topic} holds ${scores.size} predictions, not ${records}`);
    if (this.#expected !== null) return compare(scores, this.#expected);
    if (records !== RECORDS) throw new Error("the first run must score all of them: the others are held to it");
    this.#expected = scores;
    return null;
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

async function readScores(bench: BenchCluster, topic: string, read: ReadPrediction): Promise<Map<string, number>> {
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

function compare(scores: Map<string, number>, expected: Map<string, number>): number {
  let greatest = 0;
  for (const [id, score] of scores) {
    const other = expected.get(id);
    if (other === undefined) throw new Error(`${id} was scored by one and not by the other`);
    greatest = Math.max(greatest, Math.abs(other - score));
  }
  if (!(greatest <= TOLERANCE)) throw new Error(`a score differs from the peer's by ${greatest}`);
  return greatest;
}

function sum(roles: MeasuredProcess[], of: (role: MeasuredProcess) => number): number {
  return roles.reduce((total, role) => total + of(role), 0);
}

/** The middle one of numbers. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
