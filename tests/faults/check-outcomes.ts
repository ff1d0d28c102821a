import { crc32 } from "node:zlib";
import type { FeatureSpec } from "../../models/features/plan.js";
import type { FoldedControl } from "./check-control.js";
import type { Complaints } from "./complaints.js";
import { LARGEST_VALUE, predictionOf, type Entry } from "./ledger.js";
import type { Seen } from "./reading.js";
import { HANGS, MUTE, PARTITIONS } from "./system.js";
import { AGGREGATES, CardsReference, VALUES, WINDOWS, type MerchantSums } from "./windows-reference.js";

const FAILING = [HANGS, MUTE];

/** The topic of transactions, or one that had its name before. */
export interface Generation {
  /** By partition, in the order of the log. */
  entries: readonly Entry[][];
  /** By partition: from here on records may have been there that nobody has seen. */
  ends: readonly number[];
  /**
   * Whether each record must have got its outcome; otherwise those may be missing that had not been read when the topic
   * was deleted.
   */
  required: boolean;
  /** Epoch milliseconds; Infinity: it wasn't. */
  deletedAt: number;
}

/** What must become of a record, and what has. */
interface Expected {
  entry: Entry;
  /** Its generation. */
  generation: number;
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
  predictions: number;
  shadowPredictions: number;
  deadLetters: number;
  forwarded: number;
  /** Predictions that went on without a bucket that they needed: their merchants' windows aren't compared. */
  stale: number;
  /** Feature values that were compared with those of a run without faults. */
  comparedValues: number;
  nextVersion: number;
  /** How often a partition went back to an earlier deployment, from one whose champion had hung. */
  fallbacks: number;
  /** Outcomes of what was written to a topic while it was deleted. */
  unseen: number;
}

/** Every record of the transactions' topic, and the outcome that it must have. */
export class Outcomes {
  readonly counts: OutcomeCounts = {
    predictions: 0,
    shadowPredictions: 0,
    deadLetters: 0,
    forwarded: 0,
    stale: 0,
    comparedValues: 0,
    nextVersion: 0,
    fallbacks: 0,
    unseen: 0,
  };
  readonly #complaints: Complaints;
  readonly #control: FoldedControl;
  readonly #models: Record<string, FeatureSpec[]>;
  readonly #merchants: MerchantSums;
  readonly #generations: readonly Generation[];
  /** By generation, partition and offset. */
  readonly #expected: Map<number, Expected>[][];
  /** By topic, partition and source partition: the generation and offset of the source of the last outcome. */
  readonly #lastSource = new Map<string, { generation: number; offset: number }>();
  readonly #lastEpoch = new Map<number, number>();

  /** @param generations in their order */
  constructor(
    generations: readonly Generation[],
    options: {
      control: FoldedControl;
      models: Record<string, FeatureSpec[]>;
      merchants: MerchantSums;
      complaints: Complaints;
    },
  ) {
    this.#complaints = options.complaints;
    this.#control = options.control;
    this.#models = options.models;
    this.#merchants = options.merchants;
    this.#generations = generations;
    // A history of cards is that of one topic.
    this.#expected = generations.map(({ entries }, generation) =>
      entries.map((partition) => {
        const cards = new CardsReference();
        return new Map(partition.map((entry) => [entry.offset, { ...expectedOf(entry, cards), generation }]));
      }),
    );
  }

  prediction(seen: Seen): void {
    const { partition, key, value } = seen;
    this.counts.predictions += 1;
    const { prediction, next } = predictionOf(value);
    if (next) this.counts.nextVersion += 1;
    const where = `${prediction.source_partition}/${prediction.source_offset}`;
    const expected = this.#settle(
      "prediction",
      seen,
      this.#find(
        seen,
        prediction.source_partition,
        prediction.source_offset,
        ({ payment }) => payment?.id === prediction.transaction_id,
      ),
    );
    if (expected === null) return;
    const { payment } = expected.entry;
    if (expected.kind !== "prediction" || payment === null) {
      this.#complaints.add(
        "wrong outcome",
        `${where} has a prediction, and should be a ${expected.kind} ${expected.code}`,
      );
      return;
    }
    if (
      payment.id !== prediction.transaction_id ||
      payment.card !== prediction.card_id ||
      payment.card !== key ||
      payment.merchant !== prediction.merchant_id ||
      payment.amount !== prediction.amount ||
      payment.time !== prediction.event_time
    )
      this.#complaints.add(
        "prediction of another transaction",
        `${where}: ${prediction.transaction_id} of ${prediction.card_id}, keyed ${key}`,
      );
    expected.epoch = prediction.epoch;
    const deployment = this.#control.deployments.get(prediction.epoch);
    if (deployment?.champion?.model !== prediction.model)
      this.#complaints.add("model not in force", `${where}: ${prediction.model} at epoch ${prediction.epoch}`);
    // A worker goes back to before a deployment whose champion fails, and to none before another.
    const last = this.#lastEpoch.get(partition) ?? -1;
    const fellBack =
      prediction.epoch < last && FAILING.includes(this.#control.deployments.get(last)?.champion?.model ?? "");
    if (fellBack) this.counts.fallbacks += 1;
    if (prediction.model === MUTE) this.#complaints.add("a score of a model that has none", where);
    if (prediction.epoch < last && !fellBack)
      this.#complaints.add("epochs go back", `${where}: epoch ${prediction.epoch} after ${last}`);
    this.#lastEpoch.set(partition, prediction.epoch);
    if (expected.late && !prediction.stale) this.#complaints.add("late, but not stale", where);
    if (prediction.stale && !expected.late) this.counts.stale += 1;
    this.#compare(where, expected, prediction);
  }

  shadowPrediction(seen: Seen): void {
    const { partition, offset, value } = seen;
    this.counts.shadowPredictions += 1;
    const { prediction } = predictionOf(value);
    const where = `${prediction.source_partition}/${prediction.source_offset} by ${prediction.model}`;
    const expected = this.#find(
      seen,
      prediction.source_partition,
      prediction.source_offset,
      ({ payment }) => payment?.id === prediction.transaction_id,
    );
    if (expected === "unseen") return;
    if (expected === undefined)
      this.#complaints.add("shadow without a transaction", `${where} at ${partition}/${offset}`);
    else if (expected.shadows.includes(prediction.model)) this.#complaints.add("shadow doubled", where);
    else {
      expected.shadows.push(prediction.model);
      if (expected.epoch !== prediction.epoch)
        this.#complaints.add(
          "shadow of another epoch",
          `${where}: ${prediction.epoch}, the champion's is ${expected.epoch}`,
        );
      this.#compare(where, expected, prediction);
    }
  }

  deadLetter(seen: Seen): void {
    const { value, headers } = seen;
    this.counts.deadLetters += 1;
    const [from, at] = [Number(headers["partition"]), Number(headers["offset"])];
    const isOf = ({ length, crc }: Entry): boolean =>
      length > LARGEST_VALUE ? value.length === 0 && headers["length"] !== undefined : crc32(value) === crc;
    const expected = this.#settle("dead letter", seen, this.#find(seen, from, at, isOf));
    if (expected === null) return;
    const { kind, code, entry, first } = expected;
    if (kind !== "dead letter" || headers["code"] !== code)
      this.#complaints.add(
        "wrong outcome",
        `${from}/${at} is a dead letter ${headers["code"]} (${headers["reason"]}), and should be a ${kind} ${code}`,
      );
    else if (code === "repeated" && !headers["reason"].endsWith(`/${from}/${first}`))
      this.#complaints.add("repeat of another", `${from}/${at}: ${headers["reason"]}, the first is at ${first}`);
    if (entry.length > LARGEST_VALUE) {
      const length = Number(headers["length"]);
      const told = code === "too_large" ? length === entry.length : length > 0 && length < LARGEST_VALUE;
      if (value.length > 0 || !told || !/^[0-9a-f]{64}$/.test(headers["sha256"] ?? ""))
        this.#complaints.add(
          "dead letter changed",
          `${from}/${at} has ${value.length} bytes, length ${headers["length"]}, sha256 ${headers["sha256"]}`,
        );
    } else if (crc32(value) !== entry.crc) this.#complaints.add("dead letter changed", `${from}/${at}`);
  }

  /** To be called when everything was read. */
  finish(): void {
    // A copy that was sent on has the same bytes: offsets of one topic are those of another, too.
    const forwards = new Map<string, number>();
    const all = this.#expected.flat();
    for (const partition of all) {
      for (const { entry } of partition.values())
        if (entry.forwarded !== null)
          forwards.set(`${entry.forwarded}/${entry.crc}`, (forwards.get(`${entry.forwarded}/${entry.crc}`) ?? 0) + 1);
    }
    const misplaced = new Set<string>();
    for (const partition of all) {
      /** Where the first stands that has no outcome. */
      let open: string | null = null;
      for (const { entry, kind, outcomes, epoch, shadows, generation } of partition.values()) {
        const where = `${entry.partition}/${entry.offset} (${entry.payment?.id ?? `n ${entry.n}`})`;
        const { required } = this.#generations[generation];
        if (kind === "forwarded") {
          this.counts.forwarded += 1;
          const source = `${entry.partition}/${entry.offset}/${entry.crc}`;
          misplaced.add(source);
          const times = forwards.get(source) ?? 0;
          if (times > 1 || (times === 0 && required)) this.#complaints.add("sent on", `${where}: ${times} times`);
        } else if (outcomes === 0 && required)
          this.#complaints.add("lost", `${where} has neither prediction nor dead letter`);
        else if (outcomes === 0) open ??= where;
        else if (open !== null)
          this.#complaints.add("lost", `${open} has neither prediction nor dead letter, and ${where} behind it has`);
        if (kind !== "prediction" || outcomes === 0) continue;
        const wanted =
          this.#control.deployments
            .get(epoch)
            ?.shadows.map(({ model }) => model)
            .sort() ?? [];
        if (wanted.join() !== shadows.sort().join())
          this.#complaints.add(
            "shadows",
            `${where}: ${shadows.join() || "none"} at epoch ${epoch}, not ${wanted.join() || "none"}`,
          );
      }
    }
    for (const source of forwards.keys()) {
      if (misplaced.has(source) || this.#isUnseen(source)) continue;
      this.#complaints.add("sent on", `${source} was not misplaced`);
    }
  }

  /** Whether a record, `partition/offset/…`, may have stood in a topic that was being deleted. */
  #isUnseen(source: string): boolean {
    const [partition, offset] = source.split("/").map(Number);
    return this.#generations.some(({ required, ends }) => !required && offset >= (ends[partition] ?? 0));
  }

  /** The record that an outcome is of; "unseen": it may have been one that nobody has seen. */
  #find(
    { timestamp }: Seen,
    partition: number,
    offset: number,
    isOf: (entry: Entry) => boolean,
  ): Expected | "unseen" | undefined {
    let newest: Expected | undefined;
    for (let generation = this.#generations.length - 1; generation >= 0; generation--) {
      // While there was another one before it, there was nothing of this.
      if (generation > 0 && timestamp < this.#generations[generation - 1].deletedAt) continue;
      const expected = this.#expected[generation][partition]?.get(offset);
      if (expected !== undefined && isOf(expected.entry)) return expected;
      newest ??= expected;
    }
    return this.#isUnseen(`${partition}/${offset}`) ? "unseen" : newest;
  }

  /** @returns null where there is nothing to settle */
  #settle(
    kind: string,
    { partition: inPartition, offset: at }: Seen,
    expected: Expected | "unseen" | undefined,
  ): Expected | null {
    if (expected === "unseen") {
      this.counts.unseen += 1;
      return null;
    }
    if (expected === undefined || expected.kind === "forwarded") {
      const of =
        expected === undefined ? "" : ` of ${expected.entry.partition}/${expected.entry.offset}, which was forwarded`;
      this.#complaints.add("outcome without a transaction", `a ${kind} at ${inPartition}/${at}${of}`);
      return null;
    }
    const {
      generation,
      entry: { partition, offset, payment, n },
    } = expected;
    expected.outcomes += 1;
    if (expected.outcomes > 1) {
      this.#complaints.add(
        "doubled",
        `${partition}/${offset} (${payment?.id ?? `n ${n}`}) has one more ${kind} at ${inPartition}/${at}`,
      );
      return null;
    }
    const stream = `${kind} ${inPartition} of ${partition}`;
    // Of a partition that was added: it has none beside it.
    if (partition % PARTITIONS !== inPartition)
      this.#complaints.add("in another partition", `a ${kind} of ${partition}/${offset} at ${inPartition}/${at}`);
    const last = this.#lastSource.get(stream) ?? { generation: 0, offset: -1 };
    const isBehind = generation > last.generation || (generation === last.generation && offset > last.offset);
    if (!isBehind)
      this.#complaints.add(
        "out of order",
        `a ${kind} of ${partition}/${offset} comes after that of ${last.offset}, generations ${generation} ` +
          `and ${last.generation}`,
      );
    this.#lastSource.set(stream, { generation, offset });
    return expected;
  }

  /** Every value of the feature vector, with those of a run without faults. */
  #compare(
    where: string,
    { entry, values }: Expected,
    {
      model,
      features,
      stale,
      score,
      decision,
    }: { model: string; features: readonly number[]; stale: boolean; score: number; decision: string },
  ): void {
    const specs = this.#models[model];
    const { payment } = entry;
    if (payment === null || values === null || specs === undefined) return;
    if (features.length !== specs.length)
      this.#complaints.add("features", `${where}: ${features.length} values for ${specs.length} features`);
    for (const [i, { name, source }] of specs.entries()) {
      let wanted: number;
      if (source.kind === "amount") wanted = payment.amount;
      else if (source.kind === "merchant" && "window" in source) {
        if (stale) continue;
        wanted = this.#merchants.at(payment.merchant, payment.time, WINDOWS[source.window as keyof typeof WINDOWS])[
          source.aggregate
        ];
      } else if (source.kind === "card") {
        wanted =
          source.aggregate === "seconds_since_last"
            ? values[VALUES - 1]
            : values[
                Object.keys(WINDOWS).indexOf(source.window) * AGGREGATES.length +
                  AGGREGATES.indexOf(source.aggregate as (typeof AGGREGATES)[number])
              ];
      } else throw new TypeError(`the checker has no reference for ${name}`);
      this.counts.comparedValues += 1;
      if (features[i] !== Math.fround(wanted))
        this.#complaints.add(
          "features",
          `${where} (${payment.id}): ${name} is ${features[i]}, and ${Math.fround(wanted)} without faults`,
        );
    }
    const wantedScore = Math.sqrt(payment.amount / 100);
    if (
      Math.abs(score - wantedScore) > 1e-5 ||
      decision !== (score >= 0.9 ? "decline" : score >= 0.5 ? "review" : "approve")
    )
      this.#complaints.add("scores", `${where}: ${score}, ${decision}`);
  }
}

function expectedOf(entry: Entry, cards: CardsReference): Omit<Expected, "generation"> {
  const { payment, code, home, partition, offset } = entry;
  const expected: Omit<Expected, "generation"> = {
    entry,
    kind: "dead letter",
    code,
    first: -1,
    late: false,
    values: null,
    outcomes: 0,
    epoch: -1,
    shadows: [],
  };
  if (payment === null) return expected;
  if (home !== partition) return { ...expected, kind: "forwarded" };
  const values = new Float64Array(VALUES);
  const scored = payment.amount >= 0;
  const verdict = cards.fold(payment, offset, scored, values);
  if (verdict.kind === "repeated") return { ...expected, code: "repeated", first: verdict.of };
  return scored ? { ...expected, kind: "prediction", late: verdict.late, values } : { ...expected, code: "no_score" };
}
