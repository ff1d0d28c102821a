import type { Complaints } from "./complaints.js";
import type { Operators } from "./operators.js";

export type Decision = "approve" | "review" | "decline";

interface Scored {
  key: string;
  time: number;
  score: number;
  alert: boolean;
}

/** The metrics of enabled models, counted from the topics as they are read. */
export class Metrics {
  /** By role and model. */
  readonly #scored = new Map<string, Scored[]>();
  /** The last one of a transaction stands. */
  readonly #labels = new Map<string, boolean>();

  label(card: string, id: string, isFraud: boolean): void {
    this.#labels.set(`${card} ${id}`, isFraud);
  }

  prediction(
    role: "champion" | "shadow",
    model: string,
    { card, id, time, score, decision }: { card: string; id: string; time: number; score: number; decision: Decision },
  ): void {
    const kind = `${role} ${model}`;
    const rows = this.#scored.get(kind) ?? [];
    this.#scored.set(kind, rows);
    rows.push({ key: `${card} ${id}`, time, score, alert: decision !== "approve" });
  }

  /** Compares with what the API has answered for a window. */
  check(answer: MetricsAnswer, complaints: Complaints): void {
    for (const { model, role, ...figures } of answer.models) {
      const rows = (this.#scored.get(`${role} ${model}`) ?? []).filter(
        ({ time }) => time >= answer.from && time < answer.to,
      );
      const verdicts = rows.flatMap(({ key, score, alert }) => {
        const fraud = this.#labels.get(key);
        return fraud === undefined ? [] : [{ fraud, score, alert }];
      });
      const count = (fraud: boolean, alert: boolean): number =>
        verdicts.filter((each) => each.fraud === fraud && each.alert === alert).length;
      const wanted = {
        rows: rows.length,
        labelled: verdicts.length,
        true_positives: count(true, true),
        false_positives: count(false, true),
        false_negatives: count(true, false),
        true_negatives: count(false, false),
        roc_auc: areaOf(verdicts),
      };
      const found = { rows: figures.rows, labelled: figures.labelled, ...figures.confusion, roc_auc: figures.roc_auc };
      for (const [name, value] of Object.entries(wanted)) {
        const has = found[name as keyof typeof found];
        const same = value === null || has === null ? value === has : Math.abs(value - has) < 1e-9;
        if (!same) complaints.add("metrics", `${name} of ${role} ${model} is ${has}, and ${value} by the topics`);
      }
    }
  }
}

export interface MetricsAnswer {
  from: number;
  to: number;
  models: {
    model: string;
    role: "champion" | "shadow";
    rows: number;
    labelled: number;
    roc_auc: number | null;
    confusion: Record<"true_positives" | "false_positives" | "false_negatives" | "true_negatives", number>;
  }[];
}

/** Asks the API for the metrics of an event-time window, of labelled transactions. @returns null: no answer */
export async function askMetrics(operators: Operators, from: number, to: number): Promise<MetricsAnswer | null> {
  const query = new URLSearchParams({
    from: new Date(from).toISOString(),
    to: new Date(to).toISOString(),
    labels: "explicit",
  });
  const answer = await operators.call("GET", `/models/metrics?${query.toString()}`);
  return answer?.status === 200 ? { from, to, models: answer.body["models"] as MetricsAnswer["models"] } : null;
}

/** Mann-Whitney: how often a fraud scores higher than a genuine one, ties half. Null: one of them is missing. */
function areaOf(verdicts: readonly { fraud: boolean; score: number }[]): number | null {
  const sorted = [...verdicts].sort((a, b) => a.score - b.score);
  const frauds = sorted.filter(({ fraud }) => fraud).length;
  if (frauds === 0 || frauds === sorted.length) return null;
  let wins = 0;
  let below = 0;
  for (let i = 0; i < sorted.length;) {
    let end = i;
    let genuine = 0;
    while (end < sorted.length && sorted[end].score === sorted[i].score) genuine += sorted[end++].fraud ? 0 : 1;
    wins += (end - i - genuine) * (below + genuine / 2);
    below += genuine;
    i = end;
  }
  return wins / (frauds * (sorted.length - frauds));
}
