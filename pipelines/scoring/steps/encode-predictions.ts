import type { PartitionOutput } from "../../../infra/kafka/partition-output.js";
import { MOST_REASONS, type AlertReasons } from "../../../models/explain/alert-reasons.js";
import { writeLong, writeText } from "../../../schemas/avro-writer.js";
import { WIRE_HEAD_BYTES, writeWireHead } from "../../../schemas/wire-format.js";
import type { TransactionBatch } from "../../transactions/transaction-batch.js";

/** The scores of one model for the rows of a batch. */
export interface ScoredBatch {
  /** name@version */
  model: string;
  epoch: number;
  /** `features[row * featureCount + feature]` */
  features: Float32Array;
  featureCount: number;
  /** NaN: the model gave none, and the row gets no prediction. */
  scores: Float32Array;
  review: number;
  decline: number;
  /** Gives the reasons of alerts; null: the model's scores can't be explained. */
  reasons: AlertReasons | null;
  /** Milliseconds from the start of the batch to its scores. */
  scoringMs: number;
  scoredAt: number;
}

const DECISIONS = ["approve", "review", "decline"] as const;

/** Index into DECISIONS, which is also the order of the Avro enum. */
export function decide(score: number, review: number, decline: number): number {
  return score >= decline ? 2 : score >= review ? 1 : 0;
}

const APPROVE = DECISIONS.indexOf("approve");

const INITIAL_BYTES = 4096;
/** Everything except the texts and the features, with each number at its longest. */
const FIXED_PART_BYTES = 160;
/** A reason's contribution and the length of its name. */
const REASON_BYTES = 13;

/**
 * Writes predictions in Avro (schemas/avro/prediction.avsc, field by field) straight into a topic's output: texts and
 * features are copied from where they are. Tests in tests/unit/pipelines/scoring/steps compare it with avsc's reading
 * of the same schema.
 */
export class PredictionEncoder {
  readonly #sourceTopic: Buffer;
  readonly #sourcePartition: number;
  readonly #schemaId: number;
  #bytes = Buffer.allocUnsafe(INITIAL_BYTES);
  #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset);

  constructor(source: { topic: string; partition: number }, schemaId: number) {
    this.#sourceTopic = Buffer.from(source.topic);
    this.#sourcePartition = source.partition;
    this.#schemaId = schemaId;
  }

  /**
   * Appends a prediction for every row with a score.
   *
   * @param offsets by record
   * @param headersOf the headers of a row's prediction, encoded; null for none
   */
  encode(
    batch: TransactionBatch,
    scored: ScoredBatch,
    offsets: Float64Array,
    headersOf: (row: number) => Buffer | null,
    output: PartitionOutput,
  ): void {
    const model = Buffer.from(scored.model);
    const featureBytes = new Uint8Array(scored.features.buffer, scored.features.byteOffset, scored.features.byteLength);
    const vectorBytes = scored.featureCount * Float32Array.BYTES_PER_ELEMENT;
    const reasonBytes = scored.reasons === null ? 0 : MOST_REASONS * (scored.reasons.longestName + REASON_BYTES);
    for (let row = 0; row < batch.length; row++) {
      const score = scored.scores[row];
      if (Number.isNaN(score)) continue;
      const source = batch.bytes[row];
      const cardAt = batch.cardIdAt[row];
      const cardLength = batch.cardIdLength[row];
      this.#reserve(
        FIXED_PART_BYTES +
          batch.transactionIdLength[row] +
          cardLength +
          batch.merchantIdLength[row] +
          model.length +
          vectorBytes +
          reasonBytes +
          this.#sourceTopic.length,
      );
      const bytes = this.#bytes;
      let at = writeWireHead(bytes, 0, this.#schemaId);
      at = writeText(bytes, at, source, batch.transactionIdAt[row], batch.transactionIdLength[row]);
      at = writeText(bytes, at, source, cardAt, cardLength);
      at = writeText(bytes, at, source, batch.merchantIdAt[row], batch.merchantIdLength[row]);
      this.#view.setFloat64(at, batch.amount[row], true);
      at = writeText(bytes, at + 8, source, batch.currencyAt[row], 3);
      at = writeLong(bytes, at, batch.eventTime[row]);
      at = writeLong(bytes, at, scored.scoredAt);
      this.#view.setFloat32(at, scored.scoringMs, true);
      this.#view.setFloat32(at + 4, score, true);
      const decision = decide(score, scored.review, scored.decline);
      at = writeLong(bytes, at + 8, decision);
      at = writeText(bytes, at, model, 0, model.length);
      at = writeLong(bytes, at, scored.epoch);
      at = writeLong(bytes, at, scored.featureCount);
      // Avro's float and this machine's are both IEEE 754, least significant byte first (Node runs on no other).
      bytes.set(featureBytes.subarray(row * vectorBytes, (row + 1) * vectorBytes), at);
      at += vectorBytes;
      bytes[at++] = 0; // end of the features
      bytes[at++] = batch.stale[row];
      at = this.#writeReasons(
        at,
        decision === APPROVE ? null : scored.reasons,
        scored.features,
        row * scored.featureCount,
      );
      at = writeText(bytes, at, this.#sourceTopic, 0, this.#sourceTopic.length);
      at = writeLong(bytes, at, this.#sourcePartition);
      at = writeLong(bytes, at, offsets[batch.record[row]]);
      output.append(source.subarray(cardAt, cardAt + cardLength), bytes.subarray(0, at), headersOf(row));
    }
  }

  #writeReasons(at: number, reasons: AlertReasons | null, features: Float32Array, row: number): number {
    const bytes = this.#bytes;
    const count = reasons === null ? 0 : reasons.find(features, row);
    if (reasons === null || count === 0) {
      bytes[at++] = 0; // null
      return at;
    }
    bytes[at++] = 2; // the union's array
    at = writeLong(bytes, at, count);
    for (let i = 0; i < count; i++) {
      const name = reasons.names[reasons.feature[i]];
      at = writeText(bytes, at, name, 0, name.length);
      this.#view.setFloat64(at, reasons.contribution[i], true);
      at += 8;
    }
    bytes[at++] = 0; // end of the array
    return at;
  }

  #reserve(length: number): void {
    if (length + WIRE_HEAD_BYTES <= this.#bytes.length) return;
    this.#bytes = Buffer.allocUnsafe((length + WIRE_HEAD_BYTES) * 2);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset);
  }
}
