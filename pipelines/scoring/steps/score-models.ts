import { FeaturePlan } from "../../../models/features/plan.js";
import { FraudstreamError, messageOf } from "../../../schemas/errors.js";
import type { LoadedDeployment, LoadedModel } from "../deployments.js";
import type { TransactionBatch } from "../transaction-batch.js";
import type { Rejection } from "./decode-transactions.js";
import type { ScoredBatch } from "./encode-predictions.js";

/** Rows of one run of the model: large enough that a call's cost vanishes, small enough to stay in the cache (tests/bench). */
const ROWS_PER_RUN = 1024;

/** One model's features and scores for the batches of one partition; its buffers are used again. */
export class ModelScorer {
  readonly model: LoadedModel;
  readonly #epoch: number;
  readonly #plan: FeaturePlan;
  #features = new Float32Array(0);
  #scores = new Float32Array(0);

  constructor(model: LoadedModel, deployment: LoadedDeployment) {
    this.model = model;
    this.#epoch = deployment.epoch;
    this.#plan = new FeaturePlan(model.manifest.features, deployment.slots, deployment.history.slots);
  }

  /** Computes the features of a batch. To be called before `score`. */
  prepare(batch: TransactionBatch): void {
    const { size } = this.#plan;
    if (this.#scores.length < batch.length) {
      this.#scores = new Float32Array(batch.length);
      this.#features = new Float32Array(batch.length * size);
    }
    this.#plan.compute(batch, this.#features);
  }

  /** Scores the prepared batch. @throws whatever the model throws */
  async score(batch: TransactionBatch, startedAt: number): Promise<ScoredBatch> {
    for (let from = 0; from < batch.length; from += ROWS_PER_RUN) await this.#run(from, Math.min(from + ROWS_PER_RUN, batch.length));
    return this.#scored(startedAt);
  }

  /** Scores each row by itself, after the batch as a whole has failed: a row that fails gets NaN. */
  async scoreEach(batch: TransactionBatch, startedAt: number): Promise<{ scored: ScoredBatch; failures: Map<number, string> }> {
    const failures = new Map<number, string>();
    for (let row = 0; row < batch.length; row++) {
      try {
        await this.#run(row, row + 1);
      } catch (error) {
        this.#scores[row] = Number.NaN;
        failures.set(row, messageOf(error));
      }
    }
    return { scored: this.#scored(startedAt), failures };
  }

  /** Whether the model still gives a score for a row of zeros. */
  async scoresZeros(): Promise<boolean> {
    try {
      const [score] = await this.model.scorer.run(new Float32Array(this.#plan.size), 1);
      return score >= 0 && score <= 1;
    } catch {
      return false;
    }
  }

  async #run(from: number, to: number): Promise<void> {
    const { size } = this.#plan;
    this.#scores.set(await this.model.scorer.run(this.#features.subarray(from * size, to * size), to - from), from);
  }

  #scored(startedAt: number): ScoredBatch {
    const { model, review, decline, reasons } = this.model;
    return {
      model, review, decline, reasons, epoch: this.#epoch,
      features: this.#features, featureCount: this.#plan.size, scores: this.#scores,
      scoringMs: performance.now() - startedAt, scoredAt: Date.now(),
    };
  }
}

/**
 * Fewer failing rows than this say little of a model: a partition's last few may all be such that it has no score for, and would stop
 * each worker anew. So would dead letters that are sent again, however many: of those it is known that they failed. And so would values
 * beyond float32, which whoever may publish could send on purpose.
 */
const TELLING_ROWS = 100;

/**
 * The champion's scores. A row that it fails on, or gives no score between 0 and 1, gets NaN and a rejection.
 *
 * @param isRepeated whether a record is a dead letter that was sent again
 * @throws FraudstreamError `champion_failed` when it fails on every row: then it is the model, not the transactions. Of
 *   fewer than TELLING_ROWS that is said only where it fails on a row of zeros, too.
 */
export async function scoreChampion(scorer: ModelScorer, batch: TransactionBatch, startedAt: number, isRepeated: (record: number) => boolean): Promise<{ scored: ScoredBatch; rejections: Rejection[] }> {
  scorer.prepare(batch);
  let scored: ScoredBatch;
  let failures = new Map<number, string>();
  try {
    scored = await scorer.score(batch, startedAt);
  } catch {
    ({ scored, failures } = await scorer.scoreEach(batch, startedAt));
  }
  const rejections: Rejection[] = [];
  const { scores } = scored;
  for (let row = 0; row < batch.length; row++) {
    const score = scores[row];
    if (score >= 0 && score <= 1) continue;
    const failure = failures.get(row);
    const reason = failure === undefined ? `${scored.model} gave ${score}, not a score between 0 and 1` : `${scored.model} failed: ${failure}`;
    rejections.push({ record: batch.record[row], step: "score", code: failure === undefined ? "no_score" : "model_failed", reason });
    scores[row] = Number.NaN;
  }
  if (batch.length > 0 && rejections.length === batch.length) {
    let telling = 0;
    for (let row = 0; row < batch.length; row++) if (!isRepeated(batch.record[row]) && !hasInfinity(scored, row)) telling += 1;
    if (telling >= TELLING_ROWS || !(await scorer.scoresZeros())) throw new FraudstreamError("champion_failed", `the champion fails on every transaction: ${rejections[0].reason}`);
  }
  return { scored, rejections };
}

function hasInfinity({ features, featureCount }: ScoredBatch, row: number): boolean {
  for (let at = row * featureCount; at < (row + 1) * featureCount; at++) if (Math.abs(features[at]) === Infinity) return true;
  return false;
}

/**
 * A shadow's scores for the rows that the champion scored.
 *
 * @throws FraudstreamError `shadow_failed` at the first row without a score
 */
export async function scoreShadow(scorer: ModelScorer, batch: TransactionBatch, champion: ScoredBatch, startedAt: number): Promise<ScoredBatch> {
  scorer.prepare(batch);
  const scored = await scorer.score(batch, startedAt);
  for (let row = 0; row < batch.length; row++) {
    if (Number.isNaN(champion.scores[row])) scored.scores[row] = Number.NaN;
    else if (!(scored.scores[row] >= 0 && scored.scores[row] <= 1)) {
      throw new FraudstreamError("shadow_failed", `it gave ${scored.scores[row]}, not a score between 0 and 1`);
    }
  }
  return scored;
}
