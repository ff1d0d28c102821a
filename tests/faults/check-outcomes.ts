import { crc32 } from "node:zlib";
import type { FeatureSpec } from "../../models/features/plan.js";
import type { FoldedControl } from "./check-control.js";
import type { Complaints } from "./complaints.js";
import { LARGEST_VALUE, predictionOf, type Entry } from "./ledger.js";
import type { Seen } from "./reading.js";
import { HANGS, MUTE } from "./system.js";
import { AGGREGATES, CardsReference, VALUES, WINDOWS, type MerchantSums } from "./windows-reference.js";

const FAILING = [HANGS, MUTE];

/** What must become of a record, and what has. */
interface Expected {
  entry: Entry;
  kind: "prediction" | "dead letter" | "forwarded";
  /** Of a dead letter. */
  code: string;
  /** Of a repeat: where the first one stands. */
  first: number;
  /** Of a prediction: it came too late for its partition. */
  late: boolean;
  values: Float64Array | null;
  /** How often it has got an outcome. */
  outcomes: number;
  /** Of the prediction that it got, and the shadows that have scored it. */
  epoch: number;
  shadows: string[];
}

export interface OutcomeCounts {
  predictions: number; shadowPredictions: number; deadLetters: number; forwarded: number;
  /** Predictions that went on without a bucket that they needed: their merchants' windows aren't compared. */
  stale: number;
  /** Feature values that were compared with those of a run without faults. */
  comparedValues: number;
  nextVersion: number;
  /** How often a partition went back to an earlier deployment, from one whose champion had hung. */
  fallbacks: number;
}

/** Every record of the transactions' topic, and the outcome that it must have. */
export class Outcomes {
  readonly counts: OutcomeCounts = { predictions: 0, shadowPredictions: 0, deadLetters: 0, forwarded: 0, stale: 0, comparedValues: 0, nextVersion: 0, fallbacks: 0 };
  readonly #complaints: Complaints;
  readonly #control: FoldedControl;
  readonly #models: Record<string, FeatureSpec[]>;
  readonly #merchants: MerchantSums;
  /** By partition and offset. */
  readonly #expected: Map<number, Expected>[];
  /** By topic and partition: the source offset of the last outcome. */
  readonly #lastSource = new Map<string, number>();
  readonly #lastEpoch = new Map<number, number>();

  /** @param entries by partition, in the order of the log */
  constructor(entries: readonly Entry[][], options: { control: FoldedControl; models: Record<string, FeatureSpec[]>; merchants: MerchantSums; complaints: Complaints }) {
    this.#complaints = options.complaints;
    this.#control = options.control;
    this.#models = options.models;
    this.#merchants = options.merchants;
    this.#expected = entries.map((partition) => {
      const cards = new CardsReference();
      return new Map(partition.map((entry) => [entry.offset, expectedOf(entry, cards)]));
    });
  }

  prediction({ partition, offset, key, value }: Seen): void {
    this.counts.predictions += 1;
    const { prediction, next } = predictionOf(value);
    if (next) this.counts.nextVersion += 1;
    const where = `${prediction.source_partition}/${prediction.source_offset}`;
    const expected = this.#settle("prediction", prediction.source_partition, prediction.source_offset, partition, offset);
    if (expected === null) return;
    const { payment } = expected.entry;
    if (expected.kind !== "prediction" || payment === null) {
      this.#complaints.add("wrong outcome", `${where} has a prediction, and should be a ${expected.kind} ${expected.code}`);
      return;
    }
    if (payment.id !== prediction.transaction_id || payment.card !== prediction.card_id || payment.card !== key || payment.merchant !== prediction.merchant_id || payment.amount !== prediction.amount || payment.time !== prediction.event_time) this.#complaints.add("prediction of another transaction", `${where}: ${prediction.transaction_id} of ${prediction.card_id}, keyed ${key}`);
    expected.epoch = prediction.epoch;
    const deployment = this.#control.deployments.get(prediction.epoch);
    if (deployment?.champion?.model !== prediction.model) this.#complaints.add("model not in force", `${where}: ${prediction.model} at epoch ${prediction.epoch}`);
    // A worker goes back to before a deployment whose champion fails, and to none before another.
    const last = this.#lastEpoch.get(partition) ?? -1;
    const fellBack = prediction.epoch < last && FAILING.includes(this.#control.deployments.get(last)?.champion?.model ?? "");
    if (fellBack) this.counts.fallbacks += 1;
    if (prediction.model === MUTE) this.#complaints.add("a score of a model that has none", where);
    if (prediction.epoch < last && !fellBack) this.#complaints.add("epochs go back", `${where}: epoch ${prediction.epoch} after ${last}`);
    this.#lastEpoch.set(partition, prediction.epoch);
    if (expected.late && !prediction.stale) this.#complaints.add("late, but not stale", where);
    if (prediction.stale && !expected.late) this.counts.stale += 1;
    this.#compare(where, expected, prediction);
  }

  shadowPrediction({ partition, offset, value }: Seen): void {
    this.counts.shadowPredictions += 1;
    const { prediction } = predictionOf(value);
    const where = `${prediction.source_partition}/${prediction.source_offset} by ${prediction.model}`;
    const expected = this.#expected[prediction.source_partition]?.get(prediction.source_offset);
    if (expected === undefined) this.#complaints.add("shadow without a transaction", `${where} at ${partition}/${offset}`);
    else if (expected.shadows.includes(prediction.model)) this.#complaints.add("shadow doubled", where);
    else {
      expected.shadows.push(prediction.model);
      if (expected.epoch !== prediction.epoch) this.#complaints.add("shadow of another epoch", `${where}: ${prediction.epoch}, the champion's is ${expected.epoch}`);
      this.#compare(where, expected, prediction);
    }
  }

  deadLetter({ partition, offset, value, headers }: Seen): void {
    this.counts.deadLetters += 1;
    const [from, at] = [Number(headers["partition"]), Number(headers["offset"])];
    const expected = this.#settle("dead letter", from, at, partition, offset);
    if (expected === null) return;
    const { kind, code, entry, first } = expected;
    if (kind !== "dead letter" || headers["code"] !== code) this.#complaints.add("wrong outcome", `${from}/${at} is a dead letter ${headers["code"]} (${headers["reason"]}), and should be a ${kind} ${code}`);
    else if (code === "repeated" && !headers["reason"].endsWith(`/${from}/${first}`)) this.#complaints.add("repeat of another", `${from}/${at}: ${headers["reason"]}, the first is at ${first}`);
    if (entry.length > LARGEST_VALUE) {
      const length = Number(headers["length"]);
      const told = code === "too_large" ? length === entry.length : length > 0 && length < LARGEST_VALUE;
      if (value.length > 0 || !told || !/^[0-9a-f]{64}$/.test(headers["sha256"] ?? "")) this.#complaints.add("dead letter changed", `${from}/${at} has ${value.length} bytes, length ${headers["length"]}, sha256 ${headers["sha256"]}`);
    } else if (crc32(value) !== entry.crc) this.#complaints.add("dead letter changed", `${from}/${at}`);
  }

  /** To be called when everything was read. */
  finish(): void {
    const forwards = new Map<string, number>();
    for (const partition of this.#expected) for (const { entry } of partition.values()) if (entry.forwarded !== null) forwards.set(entry.forwarded, (forwards.get(entry.forwarded) ?? 0) + 1);
    for (const partition of this.#expected) {
      for (const { entry, kind, outcomes, epoch, shadows } of partition.values()) {
        const where = `${entry.partition}/${entry.offset} (${entry.payment?.id ?? `n ${entry.n}`})`;
        if (kind === "forwarded") {
          this.counts.forwarded += 1;
          const times = forwards.get(`${entry.partition}/${entry.offset}`) ?? 0;
          if (times !== 1) this.#complaints.add("sent on", `${where}: ${times} times`);
        } else if (outcomes === 0) this.#complaints.add("lost", `${where} has neither prediction nor dead letter`);
        if (kind !== "prediction" || outcomes === 0) continue;
        const wanted = this.#control.deployments.get(epoch)?.shadows.map(({ model }) => model).sort() ?? [];
        if (wanted.join() !== shadows.sort().join()) this.#complaints.add("shadows", `${where}: ${shadows.join() || "none"} at epoch ${epoch}, not ${wanted.join() || "none"}`);
      }
    }
    for (const [from] of forwards) {
      const [partition, offset] = from.split("/").map(Number);
      if (this.#expected[partition]?.get(offset)?.kind !== "forwarded") this.#complaints.add("sent on", `${from} was not misplaced`);
    }
  }

  /** @returns null where there is nothing to settle */
  #settle(kind: string, partition: number, offset: number, inPartition: number, at: number): Expected | null {
    const expected = this.#expected[partition]?.get(offset);
    if (expected === undefined || expected.kind === "forwarded") {
      this.#complaints.add("outcome without a transaction", `a ${kind} of ${partition}/${offset} at ${inPartition}/${at}`);
      return null;
    }
    expected.outcomes += 1;
    if (expected.outcomes > 1) {
      this.#complaints.add("doubled", `${partition}/${offset} (${expected.entry.payment?.id ?? `n ${expected.entry.n}`}) has one more ${kind} at ${inPartition}/${at}`);
      return null;
    }
    const stream = `${kind} ${inPartition}`;
    if (partition !== inPartition) this.#complaints.add("in another partition", `a ${kind} of ${partition}/${offset} at ${inPartition}/${at}`);
    if (offset <= (this.#lastSource.get(stream) ?? -1)) this.#complaints.add("out of order", `a ${kind} of ${partition}/${offset} comes after that of ${this.#lastSource.get(stream)}`);
    this.#lastSource.set(stream, offset);
    return expected;
  }

  /** Every value of the feature vector, with those of a run without faults. */
  #compare(where: string, { entry, values }: Expected, { model, features, stale, score, decision }: { model: string; features: readonly number[]; stale: boolean; score: number; decision: string }): void {
    const specs = this.#models[model];
    const { payment } = entry;
    if (payment === null || values === null || specs === undefined) return;
    if (features.length !== specs.length) this.#complaints.add("features", `${where}: ${features.length} values for ${specs.length} features`);
    for (const [i, { name, source }] of specs.entries()) {
      let wanted: number;
      if (source.kind === "amount") wanted = payment.amount;
      else if (source.kind === "merchant" && "window" in source) {
        if (stale) continue;
        wanted = this.#merchants.at(payment.merchant, payment.time, WINDOWS[source.window as keyof typeof WINDOWS])[source.aggregate];
      } else if (source.kind === "card") {
        wanted = source.aggregate === "seconds_since_last" ? values[VALUES - 1] : values[Object.keys(WINDOWS).indexOf(source.window) * AGGREGATES.length + AGGREGATES.indexOf(source.aggregate as (typeof AGGREGATES)[number])];
      } else throw new TypeError(`the checker has no reference for ${name}`);
      this.counts.comparedValues += 1;
      if (features[i] !== Math.fround(wanted)) this.#complaints.add("features", `${where} (${payment.id}): ${name} is ${features[i]}, and ${Math.fround(wanted)} without faults`);
    }
    const wantedScore = Math.sqrt(payment.amount / 100);
    if (Math.abs(score - wantedScore) > 1e-5 || decision !== (score >= 0.9 ? "decline" : score >= 0.5 ? "review" : "approve")) this.#complaints.add("scores", `${where}: ${score}, ${decision}`);
  }
}

function expectedOf(entry: Entry, cards: CardsReference): Expected {
  const { payment, code, home, partition, offset } = entry;
  const expected: Expected = { entry, kind: "dead letter", code, first: -1, late: false, values: null, outcomes: 0, epoch: -1, shadows: [] };
  if (payment === null) return expected;
  if (home !== partition) return { ...expected, kind: "forwarded" };
  const values = new Float64Array(VALUES);
  const scored = payment.amount >= 0;
  const verdict = cards.fold(payment, offset, scored, values);
  if (verdict.kind === "repeated") return { ...expected, code: "repeated", first: verdict.of };
  return scored ? { ...expected, kind: "prediction", late: verdict.late, values } : { ...expected, code: "no_score" };
}
