import type { Admin } from "kafkajs";
import { UsageError } from "../../schemas/errors.js";
import type { Replication } from "../config/config.js";
import type { Logger } from "../logging.js";
import { kafkajs } from "./kafkajs.js";

/** From this many brokers on, topics get three copies, two of which must have a record: any one broker may be lost. */
const BROKERS_FOR_THREE = 3;

/**
 * The replication of a new topic.
 *
 * @returns a factor of -1: the brokers' own default
 * @throws UsageError `bad_setting` if the cluster has too few brokers
 */
export function replicationFor(
  brokers: number,
  { factor, minInsync }: Replication,
): { factor: number; settings: Record<string, string> } {
  if (factor !== null && factor > brokers)
    throw new UsageError(
      "bad_setting",
      `KAFKA_REPLICATION_FACTOR is ${factor}, but the cluster has ${brokers} ${brokers === 1 ? "broker" : "brokers"}`,
    );
  const copies = factor ?? (brokers >= BROKERS_FOR_THREE ? 3 : -1);
  const least = minInsync ?? (copies >= 3 ? 2 : null);
  if (least !== null && copies > 0 && least > copies)
    throw new UsageError(
      "bad_setting",
      `KAFKA_MIN_INSYNC_REPLICAS is ${least}, but topics get ${copies} ${copies === 1 ? "copy" : "copies"}: ` +
        "nothing could be written",
    );
  return { factor: copies, settings: least === null ? {} : { "min.insync.replicas": String(least) } };
}

export interface TopicCopies {
  name: string;
  /** Copies of the partition with the fewest. */ copies: number;
  /** null: unknown. */ minInsync: number | null;
}

/**
 * The warning about topics from which the loss of a single broker can take acknowledged records; null: there are none.
 */
export function riskOf(topics: readonly TopicCopies[], brokers: number): string | null {
  if (brokers < 2) return null;
  const names = (list: readonly TopicCopies[]): string => list.map(({ name }) => name).join(", ");
  const single = topics.filter(({ copies }) => copies === 1);
  const hasty = topics.filter(({ copies, minInsync }) => copies > 1 && minInsync === 1);
  const risks = [
    ...(single.length > 0
      ? [`kept by one of ${brokers} brokers: ${names(single)} (add replicas with kafka-reassign-partitions.sh)`]
      : []),
    ...(hasty.length > 0
      ? [`acknowledged by one broker, min.insync.replicas=1: ${names(hasty)} (set it to 2 with kafka-configs.sh)`]
      : []),
  ];
  return risks.length === 0 ? null : `topics can lose acknowledged records with a single broker: ${risks.join("; ")}`;
}

/** Warns about existing topics with too few copies, in one line. */
export async function warnOfRisk(admin: Admin, names: readonly string[], brokers: number, log: Logger): Promise<void> {
  if (brokers < 2) return;
  const { topics } = await admin.fetchTopicMetadata({ topics: [...names] });
  const minInsync = await minInsyncOf(admin, names);
  const copies = topics.map(({ name, partitions }) => ({
    name,
    copies: Math.min(...partitions.map(({ replicas }) => replicas.length)),
    minInsync: minInsync.get(name) ?? null,
  }));
  const risk = riskOf(copies, brokers);
  if (risk !== null) log.warn({ code: "topics_at_risk" }, risk);
}

/** Leaves out topics that this user may not describe the configuration of. */
async function minInsyncOf(admin: Admin, names: readonly string[]): Promise<Map<string, number>> {
  try {
    const resources = names.map((name) => ({
      type: kafkajs.ConfigResourceTypes.TOPIC,
      name,
      configNames: ["min.insync.replicas"],
    }));
    const described = await admin.describeConfigs({ includeSynonyms: false, resources });
    return new Map(
      described.resources.flatMap(({ resourceName, configEntries }) =>
        configEntries.map(({ configValue }) => [resourceName, Number(configValue)] as const),
      ),
    );
  } catch {
    return new Map();
  }
}
