import { Counter, Histogram, gauge, type Registry } from "../../infra/metrics/registry.js";
import type { SinkCounts, SinkDeps } from "./sink-pipeline.js";

/**
 * The metrics of a sink.
 *
 * @param counts of the pipeline
 * @returns a function to be called with every stored block
 */
export function sinkMetrics(registry: Registry, counts: () => SinkCounts): NonNullable<SinkDeps["onStored"]> {
  const registers = [registry];
  const labelNames = ["table"] as const;
  const rows = new Counter({
    name: "fraudstream_sink_rows_total",
    help: "Rows that ClickHouse has taken.",
    labelNames,
    registers,
  });
  const bytes = new Counter({
    name: "fraudstream_sink_bytes_total",
    help: "Bytes of those rows, in RowBinary.",
    labelNames,
    registers,
  });
  const blockRows = new Histogram({
    name: "fraudstream_sink_block_rows",
    help: "Rows of an insert.",
    labelNames,
    buckets: [1, 10, 100, 1_000, 10_000, 100_000],
    registers,
  });
  const seconds = new Histogram({
    name: "fraudstream_sink_insert_seconds",
    help: "How long an insert took, its retries included.",
    labelNames,
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60],
    registers,
  });
  gauge(registry, {
    name: "fraudstream_sink_refused_total",
    help: "Records that have no row.",
    labelNames: ["topic", "code"],
    read: () =>
      [...counts().refused].map(([kind, value]) => {
        const [topic, code] = kind.split(" ");
        return { labels: { topic, code }, value };
      }),
  });
  gauge(registry, {
    name: "fraudstream_sink_clickhouse_up",
    help: "0: inserts are being tried again.",
    read: () => [{ value: Number(counts().clickhouseUp) }],
  });
  return (table, block) => {
    const labels = { table };
    rows.inc(labels, block.rows);
    bytes.inc(labels, block.bytes);
    blockRows.observe(labels, block.rows);
    seconds.observe(labels, block.ms / 1_000);
  };
}
