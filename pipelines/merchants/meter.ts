import { gauge, type Registry } from "../../infra/metrics/registry.js";
import { BUCKET_MS } from "../../models/features/history-terms.js";

/** What a tenure reports. */
export interface MerchantsState {
  partition: number;
  /** Its watermark, as a bucket index; -Infinity: none yet. */
  sealed: number;
  buckets: number;
  transactions: number;
  rejected: number;
  misplaced: number;
  repeats: number;
  lateTransactions: number;
  labels: number;
  lateLabels: number;
  heldLabels: number;
  unreadableLabels: number;
  forwardedLabels: number;
  misplacedLabels: number;
  aheadLabels: number;
  bytes: number;
}

const TOTALS: [Exclude<keyof MerchantsState, "partition" | "sealed">, string][] = [
  ["buckets", "Buckets published."],
  ["transactions", "Transactions counted in a bucket."],
  ["rejected", "Records that are no transaction."],
  ["misplaced", "Transactions of a card of another partition, which scoring sends on."],
  ["repeats", "Transactions that came again within the horizon."],
  ["lateTransactions", "Transactions that came after their bucket was sealed, and aren't counted in one."],
  ["labels", "Labels read."],
  ["lateLabels", "Labels that came after their transaction's bucket was sealed, and aren't applied."],
  ["heldLabels", "Labels that wait for their transaction."],
  ["unreadableLabels", "Records that are no label; the sink sends them to the dead letters."],
  ["forwardedLabels", "Labels of a card of another partition, which were sent on to it."],
  [
    "misplacedLabels",
    "Labels of a card of another partition that are too large to be sent on: they count in no bucket.",
  ],
  ["aheadLabels", "Labels published more than a day ahead of the clock here; the sink sends them to the dead letters."],
  ["bytes", "Memory of unsealed buckets."],
];

/** What the role reports on /metrics, per partition, since this process took the partition over. */
export function merchantsMetrics(registry: Registry, states: () => readonly MerchantsState[]): void {
  const labelNames = ["partition"];
  for (const [field, help] of TOTALS) {
    const name = `fraudstream_merchants_${field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
    gauge(registry, {
      name,
      help,
      labelNames,
      read: () => states().map((state) => ({ labels: { partition: String(state.partition) }, value: state[field] })),
    });
  }
  gauge(registry, {
    name: "fraudstream_merchants_watermark_seconds",
    help: "Event time below which all buckets are published, epoch seconds.",
    labelNames,
    read: () =>
      states()
        .filter(({ sealed }) => Number.isFinite(sealed))
        .map(({ partition, sealed }) => ({
          labels: { partition: String(partition) },
          value: (sealed * BUCKET_MS) / 1_000,
        })),
  });
}
