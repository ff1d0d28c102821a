import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type avsc from "avsc";
import { RowBinaryWriter } from "../../infra/clickhouse/row-binary.js";
import { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { readRecords } from "../../infra/kafka/record-reader.js";
import { readHeaders, type FetchedRecords } from "../../infra/kafka/records.js";
import { Schemas } from "../../infra/kafka/schemas.js";
import { Conditions } from "../../infra/health/conditions.js";
import { createLogger } from "../../infra/logging.js";
import { loadArtifact } from "../../models/artifacts.js";
import { CardHistory } from "../../models/features/card-history.js";
import { MerchantWindows } from "../../models/features/merchant-windows.js";
import type { FeatureSpec } from "../../models/features/plan.js";
import { ControlState } from "../../models/control/state.js";
import { appendDeadLetter } from "../../pipelines/runtime/dead-letters.js";
import { Deployments, type LoadedDeployment } from "../../pipelines/scoring/deployments.js";
import { decodeTransactions, learnSchemas, type Rejection } from "../../pipelines/transactions/decode-transactions.js";
import { PredictionEncoder } from "../../pipelines/scoring/steps/encode-predictions.js";
import { foldHistory, takeMisplaced } from "../../pipelines/scoring/steps/fold-history.js";
import { ModelScorer, scoreChampion } from "../../pipelines/scoring/steps/score-models.js";
import { TransactionBatch } from "../../pipelines/transactions/transaction-batch.js";
import { transactionRows } from "../../pipelines/sink/rows/transaction-rows.js";
import type { AvroSchema } from "../../schemas/avro-cursor.js";
import { errorRow } from "../../schemas/error-codes.js";
import { TransactionReader } from "../../schemas/transaction-reader.js";
import { transactionSchema, type Transaction } from "../../schemas/generated.js";
import { WIRE_HEAD_BYTES, type SchemaKey } from "../../schemas/wire-format.js";
import type { WriterSchema } from "../../schemas/writer-schema.js";
import { HISTORY_FEATURES } from "../support/card-histories.js";
import { fetchedRecords } from "../support/fetched-records.js";
import { manifestOf, nanForRefunds, writeArtifact } from "../support/models.js";
import { RandomSource } from "../support/random-source.js";
import { PREDICTION_SCHEMA_ID, TRANSACTION_SCHEMA_ID, readPrediction } from "../support/transactions.js";
import { CARD_MARK, SECRET_MARK, told, type Findings } from "./findings.js";
import { FUZZ_SCHEMAS, FUZZ_TIME, fuzzRecord } from "./record-source.js";

// avsc is CommonJS whose exports Node can't name.
const avro = createRequire(import.meta.url)("avsc") as typeof avsc;
const transactionType = avro.Type.forSchema(transactionSchema as unknown as avsc.Schema);

const BATCH = 500;
const PARTITIONS = 2;
const TOPIC = "fraud.transactions";
const never = new AbortController().signal;

/** History, and attributes of each type; refunds have no score. */
export const FUZZ_FEATURES: FeatureSpec[] = [
  ...HISTORY_FEATURES,
  ...["v1", "v2"].map((name): FeatureSpec => ({
    name,
    type: "number",
    source: { kind: "attribute", attribute: name },
    default: 0,
  })),
  { name: "known", type: "boolean", source: { kind: "attribute", attribute: "known" }, default: 0 },
  { name: "online", type: "number", source: { kind: "attribute", attribute: "channel", equals: "online" }, default: 0 },
];

export interface RecordCounts {
  records: number;
  predictions: number;
  deadLetters: Record<string, number>;
  forwarded: number;
  rows: number;
}

/** Mutated records through the steps of scoring, and through the sink's rows: each has exactly one outcome. */
export async function fuzzRecords(
  seed: number,
  count: number,
  findings: Findings,
  onProgress: (done: number) => void = () => {},
  signal: AbortSignal = never,
): Promise<RecordCounts> {
  const log = createLogger({ logLevel: "silent" }, "fuzz");
  const artifacts = await mkdtemp(join(tmpdir(), "fraudstream-fuzz-"));
  const deployments = new Deployments({
    loadArtifact: (id, sha) => loadArtifact(artifacts, id, sha),
    log,
    conditions: new Conditions(log),
    onChange: () => {},
  });
  const counts: RecordCounts = { records: 0, predictions: 0, deadLetters: {}, forwarded: 0, rows: 0 };
  try {
    const model = nanForRefunds(FUZZ_FEATURES);
    const state = new ControlState();
    const apply = (key: string, event: object, offset: number): boolean =>
      state.apply({ key, base: -1, at: 0, who: "fuzz", event: event as never }, offset);
    apply(
      "model:fuzz@1",
      {
        "fraudstream.ModelRegistered": {
          model: "fuzz@1",
          manifest_sha256: await writeArtifact(artifacts, manifestOf("fuzz@1", model), model.onnx),
          job: null,
        },
      },
      0,
    );
    apply(
      "deployment",
      { "fraudstream.Deployed": { champion: { model: "fuzz@1", review: 0.5, decline: 0.9 }, shadows: [] } },
      1,
    );
    await deployments.settle(state);
    const path = new ScoringPath(await deployments.acquire(never));
    for (let batch = 0; batch * BATCH < count && !signal.aborted; batch++) {
      const random = new RandomSource(seed * 100_003 + batch);
      const size = Math.min(BATCH, count - batch * BATCH);
      const list = Array.from({ length: size }, (_, i) => fuzzRecord(random, batch * BATCH + i));
      const records = fetchedRecords(
        { topic: TOPIC, partition: 1, firstOffset: batch * BATCH },
        list.map(({ value, card }) => ({ value, key: Buffer.from(card), timestamp: FUZZ_TIME })),
      );
      const how = (record?: number): string => {
        if (record === undefined) return `seed ${seed}, batch ${batch}`;
        const bytes = (list[record].value ?? Buffer.alloc(0)).subarray(0, 400);
        return `seed ${seed}, batch ${batch}, record ${record}: ${bytes.toString("hex")}`;
      };
      try {
        await findings.timed(
          () => how(),
          () => path.take(records, counts, (what, record) => findings.add(what, how(record))),
        );
      } catch (error) {
        findings.add(told(error), how());
      }
      counts.records += size;
      onProgress(counts.records);
    }
    return counts;
  } finally {
    await deployments.close();
    await rm(artifacts, { recursive: true, force: true });
  }
}

type Complain = (what: string, record?: number) => void;

/** Steps 2 to 5 of pipelines/scoring/scoring-pipeline.ts, without Kafka, and the sink's rows of the same records. */
class ScoringPath {
  readonly #batch: TransactionBatch;
  readonly #reader: TransactionReader;
  readonly #scorer: ModelScorer;
  readonly #deployment: LoadedDeployment;
  readonly #history = new CardHistory();
  readonly #windows = new MerchantWindows(PARTITIONS);
  readonly #encoder = new PredictionEncoder({ topic: TOPIC, partition: 1 }, PREDICTION_SCHEMA_ID);
  readonly #schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
  readonly #rows = transactionRows({
    lookup: (id) => this.#schema(id),
    backoff: { firstMs: 1, mostMs: 1, signal: never },
    log: createLogger({ logLevel: "silent" }, "fuzz"),
  });
  readonly #predictions = new PartitionOutput("predictions", 1);
  readonly #deadLetters = new PartitionOutput("dead-letters", 1);

  constructor(deployment: LoadedDeployment) {
    this.#deployment = deployment;
    this.#batch = new TransactionBatch(deployment.slots, deployment.history.size);
    this.#reader = new TransactionReader(this.#batch);
    for (const [id, schema] of FUZZ_SCHEMAS) this.#reader.learn(id, schema as AvroSchema);
    this.#scorer = new ModelScorer(deployment.champion, deployment);
  }

  async take(records: FetchedRecords, counts: RecordCounts, complain: Complain): Promise<void> {
    const { rejections, forwarded } = await this.#score(records);
    for (const { record, ...cause } of rejections) appendDeadLetter(records, record, cause, this.#deadLetters);
    const outcomes = new Uint8Array(records.count);
    const scored = new Set<number>();
    for (const record of forwarded) outcomes[record] += 1;
    for (const { value } of recordsOf(this.#predictions)) {
      const prediction = readPrediction(value as Buffer);
      const record = prediction.source_offset - records.offset[0];
      outcomes[record] += 1;
      scored.add(record);
      if (!(prediction.score >= 0 && prediction.score <= 1)) complain(`the score is ${prediction.score}`, record);
      checkAgainstOthers(records, record, prediction, complain);
    }
    for (const { value, headers } of recordsOf(this.#deadLetters)) {
      const record = Number(headers["offset"]) - records.offset[0];
      outcomes[record] += 1;
      counts.deadLetters[headers["code"]] = (counts.deadLetters[headers["code"]] ?? 0) + 1;
      if (!sameBytes(value, valueOf(records, record))) complain("the dead letter's bytes are not the record's", record);
      if (`${headers["reason"]}`.includes(CARD_MARK) || headers["reason"].includes(SECRET_MARK))
        complain(`the reason quotes the record: ${headers["reason"]}`, record);
    }
    outcomes.forEach((times, record) => times !== 1 && complain(`it has ${times} outcomes`, record));
    await this.#store(records, new Set([...scored, ...forwarded]), counts, complain);
    counts.predictions += scored.size;
    counts.forwarded += forwarded.length;
  }

  async #score(records: FetchedRecords): Promise<{ rejections: Rejection[]; forwarded: number[] }> {
    this.#predictions.reset();
    this.#deadLetters.reset();
    await learnSchemas(records, this.#reader, this.#schemas);
    const failed = new Map<number, Rejection>();
    for (;;) {
      const rejections = [
        ...failed.values(),
        ...decodeTransactions(records, this.#reader, this.#batch, { without: failed, now: Date.now() }),
      ];
      const forwarded = takeMisplaced(records, this.#batch, PARTITIONS).map(({ record }) => record);
      rejections.push(
        ...foldHistory(
          records,
          this.#batch,
          this.#history,
          this.#deployment.history,
          this.#windows,
          Number.NEGATIVE_INFINITY,
        ).repeats,
      );
      const { scored, rejections: unscored } = await scoreChampion(this.#scorer, this.#batch, performance.now(), {
        health: this.#deployment.health,
        isRepeated: () => false,
        isFirst: false,
        fallBack: () => Promise.resolve(),
      });
      if (unscored.length === 0) {
        this.#encoder.encode(this.#batch, scored, records.offset, () => null, this.#predictions);
        this.#history.commit();
        return { rejections, forwarded };
      }
      this.#history.undo();
      for (const rejection of unscored) failed.set(rejection.record, rejection);
    }
  }

  /** What scoring takes has a row; what has none has a code. */
  async #store(
    records: FetchedRecords,
    taken: ReadonlySet<number>,
    counts: RecordCounts,
    complain: Complain,
  ): Promise<void> {
    const out = new RowBinaryWriter(1 << 16);
    for (let record = 0; record < records.count; record++) {
      await this.#rows.prepare(records, record);
      const refusal = this.#rows.write(records, record, out);
      if (refusal === null) counts.rows += 1;
      else if (taken.has(record)) complain(`scoring takes it, the sink doesn't: ${refusal.code}`, record);
      else if (errorRow(refusal.code) === undefined || refusal.reason.includes(CARD_MARK))
        complain(`the sink's refusal: ${JSON.stringify(refusal)}`, record);
      out.length = 0;
    }
  }

  async #schema(id: SchemaKey): Promise<WriterSchema | null> {
    return (FUZZ_SCHEMAS.get(Number(id)) as AvroSchema | undefined) ?? this.#schemas.load(id);
  }
}

/** Holds what was read to avsc's reading, or to JSON.parse's. */
function checkAgainstOthers(
  records: FetchedRecords,
  record: number,
  prediction: { transaction_id: string; card_id: string; amount: number },
  complain: Complain,
): void {
  const value = valueOf(records, record) as Buffer;
  const isJson = value[0] === 0x7b;
  if (!isJson && value.readUInt32BE(1) !== TRANSACTION_SCHEMA_ID) return;
  try {
    const other = (
      isJson ? JSON.parse(value.toString()) : transactionType.fromBuffer(value.subarray(WIRE_HEAD_BYTES))
    ) as Transaction;
    if (
      other.transaction_id !== prediction.transaction_id ||
      other.card_id !== prediction.card_id ||
      other.amount !== prediction.amount
    )
      complain(`it was read as ${JSON.stringify(prediction).slice(0, 200)}`, record);
  } catch (error) {
    complain(`it was read, and ${isJson ? "JSON.parse" : "avsc"} refuses it: ${String(error)}`, record);
  }
}

function valueOf(records: FetchedRecords, record: number): Buffer | null {
  const length = records.valueLength[record];
  return length < 0 ? null : records.bytes.subarray(records.valueAt[record], records.valueAt[record] + length);
}

function sameBytes(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

/** The records of an output, as a consumer would find them. */
function recordsOf(output: PartitionOutput): { value: Buffer | null; headers: Record<string, string> }[] {
  return output.batches.flatMap((batch) => {
    const bytes = Buffer.from(
      batch.finish(FUZZ_TIME, { producerId: 1n, producerEpoch: 0, firstSequence: 0, transactional: false }),
    );
    const records = readRecords({
      topic: output.topic,
      partition: output.partition,
      from: 0,
      bytes,
      aborted: [],
      lastStableOffset: 0,
    });
    return Array.from({ length: records.count }, (_, i) => ({
      value: valueOf(records, i),
      headers: Object.fromEntries(readHeaders(records, i).map(([name, value]) => [name, value?.toString() ?? ""])),
    }));
  });
}
