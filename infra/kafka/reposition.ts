import type { KafkaCluster } from "./cluster.js";
import { KafkaError } from "./errors.js";
import type { LogIncident } from "./log-incidents.js";
import type { PartitionReader } from "./partition-reader.js";

/**
 * Where a follower that keeps its own position continues after `fetch` has failed because the position and the log do
 * not match; reported as an incident. In a topic that was created again it begins at the start; if retention has
 * deleted records, at the first one that is left; in a log that ends before the position, at its end.
 *
 * @param reader accepts the topic that has the name now
 * @returns null: the error is about something else
 */
export async function reposition({
  cluster,
  reader,
  next,
  error,
}: {
  cluster: KafkaCluster;
  reader: PartitionReader;
  next: number;
  error: unknown;
}): Promise<number | null> {
  if (!(error instanceof KafkaError)) return null;
  const { topic, partition } = reader;
  const where = `${topic}[${partition}]`;
  const report = (incident: Pick<LogIncident, "kind" | "lost" | "message">): void => {
    cluster.incidents.report({ topic, partition, ...incident });
  };
  if (error.recreated) {
    reader.acceptTopic();
    const first = await reader.firstOffset();
    report({
      kind: "recreated",
      lost: 0,
      message: `${error.message}. It is read from its beginning; what had not been read of the former one is lost`,
    });
    return first;
  }
  if (error.code !== "kafka_offset_out_of_range") return null;
  const [first, end] = [await reader.firstOffset(), await reader.writtenEnd()];
  if (next < first) {
    report({
      kind: "deleted",
      lost: first - next,
      message:
        `${where}: retention has deleted offsets ${next} to ${first - 1} (${first - next}) before ` + "they were read",
    });
    return first;
  }
  if (next <= end) return next;
  report({
    kind: "cut_off",
    lost: next - end,
    message:
      `${where}: the log ends at offset ${end}, before ${next}, where this reader stood: records were lost. It ` +
      "goes on at the end",
  });
  return end;
}
