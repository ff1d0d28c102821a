import { FeaturePlan, type FeatureSpec } from "../../../models/features/plan.js";
import { DIED, HUNG } from "../../../models/onnx/guarded-session.js";
import { FraudstreamError, messageOf } from "../../../schemas/errors.js";
import type { ChampionHealth } from "../champion-health.js";
import type { LoadedDeployment, LoadedModel } from "../deployments.js";
import type { TransactionBatch } from "../../transactions/transaction-batch.js";
import type { Rejection } from "../../transactions/decode-transactions.js";
import type { ScoredBatch } from "./encode-predictions.js";

/**
 * Rows per run of the model: enough that the cost of a call vanishes, few enough to stay in the cache (tests/bench).
 */
const ROWS_PER_RUN = 1024;

/** One model's features and scores for the batches of one partition; its buffers are reused. */
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

  /** Computes the features of a batch. Must be called before `score`. */
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
    for (let from = 0; from < batch.length; from += ROWS_PER_RUN)
      await this.#run(from, Math.min(from + ROWS_PER_RUN, batch.length));
    return this.#scored(startedAt);
  }

  /**
   * Scores each row on its own after the batch as a whole has failed: a row that fails gets NaN.
   *
   * @param mostInterruptions rows on which the model may hang or die before the remaining rows are left as they are
   */
  async scoreEach(
    batch: TransactionBatch,
    startedAt: number,
    mostInterruptions: number,
  ): Promise<{ scored: ScoredBatch; failures: Map<number, string>; interruptions: number }> {
    const failures = new Map<number, string>();
    let interruptions = 0;
    for (let row = 0; row < batch.length; row++) {
      try {
        if (interruptions >= mostInterruptions)
          throw new FraudstreamError("model_failed", "other rows of its batch have interrupted the model");
        await this.#run(row, row + 1);
      } catch (error) {
        if (isInterruption(error)) interruptions += 1;
        this.#scores[row] = Number.NaN;
        failures.set(row, messageOf(error));
      }
    }
    return { scored: this.#scored(startedAt), failures, interruptions };
  }

  /** Whether the model still gives a score for a row of zeros. */
  scoresZeros(): Promise<boolean> {
    return this.#scoresRow(new Float32Array(this.#plan.size));
  }

  /** Whether it gives one for a payment without attributes and history. */
  scoresPlainPayment(): Promise<boolean> {
    return this.#scoresRow(Float32Array.from(this.model.manifest.features, plainValue));
  }

  async #scoresRow(row: Float32Array): Promise<boolean> {
    try {
      const [score] = await this.model.scorer.run(row, 1);
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
      model,
      review,
      decline,
      reasons,
      epoch: this.#epoch,
      features: this.#features,
      featureCount: this.#plan.size,
      scores: this.#scores,
      scoringMs: performance.now() - startedAt,
      scoredAt: Date.now(),
    };
  }
}

function plainValue({ source, default: missing }: FeatureSpec): number {
  if (source.kind === "amount") return 1;
  return source.kind === "hour" || source.kind === "weekend" || source.kind === "night" ? 0 : (missing ?? Number.NaN);
}

/** A model that hangs or whose process ends says nothing about other rows, and costs seconds. */
function isInterruption(error: unknown): boolean {
  return error instanceof FraudstreamError && (error.code === HUNG || error.code === DIED);
}

/**
 * If nothing can take the champion's place, this many payments of a batch may interrupt it before the rest is given up.
 */
const MOST_INTERRUPTIONS = 3;
/**
 * Uploads are checked up to this value (models/uploads/probe-rows.ts). Beyond it, anyone who may publish could send
 * values on purpose that say nothing about the model.
 */
const LARGEST_TELLING = 1e12;

/** The result of a champion for a batch. */
export interface ChampionOutcome {
  scored: ScoredBatch;
  /** The rows without a score. */
  rejections: Rejection[];
  /** Why the model fails, rather than the payments; null: it doesn't. */
  fault: string | null;
  /** Whether it gives no score at all. */
  useless: boolean;
}

/**
 * The champion's scores. A row that it fails on, or gives no score between 0 and 1, gets NaN and a rejection.
 *
 * @param options.isRepeated whether a record is a dead letter that was sent again: those are known to have failed
 *   before
 * @param options.fallBack called when the model interrupts a batch twice; throws if an earlier deployment takes its
 *   place
 * @param options.isFirst whether the batch is scored for the first time: its rows count once
 */
export async function scoreChampion(
  scorer: ModelScorer,
  batch: TransactionBatch,
  startedAt: number,
  {
    health,
    isRepeated,
    isFirst,
    fallBack,
  }: {
    health: ChampionHealth;
    isRepeated: (record: number) => boolean;
    isFirst: boolean;
    fallBack: (fault: string) => Promise<void>;
  },
): Promise<ChampionOutcome> {
  scorer.prepare(batch);
  let scored: ScoredBatch;
  let failures = new Map<number, string>();
  let fault: string | null = null;
  try {
    scored = await scorer.score(batch, startedAt);
  } catch (error) {
    // Once may be chance: a machine that was too busy, a process that was killed. The batch is retried as a whole,
    // since row by row it would take long on a busy machine while an earlier deployment waits.
    if (isInterruption(error) && (health.interrupted(Date.now()) || (await interruptsAgain(scorer, batch, startedAt))))
      await fallBack(messageOf(error));
    const each = await scorer.scoreEach(batch, startedAt, MOST_INTERRUPTIONS);
    ({ scored, failures } = each);
    if (each.interruptions > 0) fault = messageOf(error);
  }
  const rejections = rejectionsOf(scored, batch, failures);
  const telling =
    rejections.length === 0 ? { scored: batch.length, failed: 0 } : countTelling(scored, batch, isRepeated);
  if (isFirst) health.add(telling.scored, telling.failed);
  const allFail = batch.length > 0 && rejections.length === batch.length;
  const useless = allFail && !(await scorer.scoresZeros());
  if (useless) fault ??= `${rejections[0].reason}, nor has it a score for a row of zeros`;
  else if (allFail && telling.failed > 0 && !health.hasScored && !(await scorer.scoresPlainPayment()))
    fault ??= `${rejections[0].reason}, nor has it a score for a payment without attributes`;
  else if (rejections.length > 0 && health.fault !== null) fault ??= `${health.fault}: ${rejections[0].reason}`;
  return { scored, rejections, fault, useless };
}

async function interruptsAgain(scorer: ModelScorer, batch: TransactionBatch, startedAt: number): Promise<boolean> {
  try {
    await scorer.score(batch, startedAt);
    return false;
  } catch (error) {
    return isInterruption(error);
  }
}

/** Removes the rows without a valid score from a batch's scores. */
function rejectionsOf(
  { model, scores }: ScoredBatch,
  batch: TransactionBatch,
  failures: ReadonlyMap<number, string>,
): Rejection[] {
  const rejections: Rejection[] = [];
  for (let row = 0; row < batch.length; row++) {
    const score = scores[row];
    if (score >= 0 && score <= 1) continue;
    const failure = failures.get(row);
    const reason =
      failure === undefined ? `${model} gave ${score}, not a score between 0 and 1` : `${model} failed: ${failure}`;
    rejections.push({
      record: batch.record[row],
      step: "score",
      code: failure === undefined ? "no_score" : "model_failed",
      reason,
    });
    scores[row] = Number.NaN;
  }
  return rejections;
}

/** The rows that say something about the model. */
function countTelling(
  scored: ScoredBatch,
  batch: TransactionBatch,
  isRepeated: (record: number) => boolean,
): { scored: number; failed: number } {
  const count = { scored: 0, failed: 0 };
  for (let row = 0; row < batch.length; row++) {
    if (!Number.isNaN(scored.scores[row])) count.scored += 1;
    else if (!isRepeated(batch.record[row]) && !isExtreme(scored, row)) count.failed += 1;
  }
  return count;
}

function isExtreme({ features, featureCount }: ScoredBatch, row: number): boolean {
  for (let at = row * featureCount; at < (row + 1) * featureCount; at++)
    if (Math.abs(features[at]) > LARGEST_TELLING) return true;
  return false;
}

/**
 * A shadow's scores for the rows that the champion scored.
 *
 * @throws FraudstreamError `shadow_failed` at the first row without a score
 */
export async function scoreShadow(
  scorer: ModelScorer,
  batch: TransactionBatch,
  champion: ScoredBatch,
  startedAt: number,
): Promise<ScoredBatch> {
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
