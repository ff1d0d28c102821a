import { setTimeout as sleep } from "node:timers/promises";
import { FraudstreamError, messageOf, UsageError } from "../../schemas/errors.js";
import { withTimeLimit } from "../async/abort-signals.js";
import type { Lifecycle } from "../lifecycle/lifecycle.js";
import type { Logger } from "../logging.js";
import type { ClickHouse, ClickHouseReader } from "./client.js";
import { clickHouseErrorType } from "./errors.js";

/**
 * The owner of the rows in a database: one Kafka cluster and one TOPIC_PREFIX. Rows are identified by topic, partition
 * and offset, and labels by transaction: two clusters or two prefixes in one database would overwrite each other's rows
 * and metrics.
 */
export interface DatabaseOwner {
  clusterId: string;
  topicPrefix: string;
}

const OWNER =
  "SELECT cluster_id AS clusterId, topic_prefix AS topicPrefix FROM database_owner ORDER BY recorded_at DESC LIMIT 1";
const RECORD =
  "INSERT INTO database_owner (cluster_id, topic_prefix) SELECT {clusterId: String}, {topicPrefix: String}";
/** Rows in a database that was filled by an earlier version, which recorded no owner. */
const TOPICS =
  "SELECT DISTINCT topic FROM predictions UNION DISTINCT SELECT DISTINCT topic FROM labels UNION DISTINCT " +
  "SELECT DISTINCT topic FROM control_events";

/** The owner's name in CLICKHOUSE_TAKE_OVER. */
export function nameOfOwner({ clusterId, topicPrefix }: DatabaseOwner): string {
  return `${clusterId}/${topicPrefix}`;
}

/**
 * Records `owner` as the owner of the database, or checks that it is. Must be called under the lock of the migrations.
 *
 * @param takeOver name of the owner that this one replaces; null: none
 * @throws UsageError `clickhouse_database` if the database has another owner
 */
export async function claimDatabase(
  clickhouse: ClickHouse,
  owner: DatabaseOwner,
  takeOver: string | null,
  log: Logger,
): Promise<void> {
  const [recorded] = await clickhouse.query<DatabaseOwner>(OWNER);
  if (recorded !== undefined && isSame(recorded, owner)) return;
  if (recorded === undefined) {
    const topics = await clickhouse.query<{ topic: string }>(TOPICS);
    const own = new Set(["predictions", "labels", "control"].map((name) => `${owner.topicPrefix}${name}`));
    const others = topics
      .map(({ topic }) => topic)
      .filter((topic) => !own.has(topic))
      .sort();
    if (others.length > 0 && others.length === topics.length) {
      throw new UsageError(
        "clickhouse_database",
        `CLICKHOUSE_DATABASE: the database ${clickhouse.database} has rows of ${others[0]}, and none of the ` +
          `topics with TOPIC_PREFIX ${owner.topicPrefix}: set CLICKHOUSE_DATABASE to another one`,
      );
    }
    if (others.length > 0)
      log.warn(
        { database: clickhouse.database, topics: others },
        "the database also has rows of other topics, which are counted in its metrics; from now on it takes none",
      );
  } else if (takeOver !== nameOfOwner(recorded)) throw refusal(clickhouse.database, recorded, owner);
  else
    log.warn({ database: clickhouse.database, from: takeOver, to: nameOfOwner(owner) }, "the database was taken over");
  await clickhouse.command(RECORD, { ...owner });
}

/**
 * Checks that the database does not belong to another owner; one without an owner passes.
 *
 * @throws UsageError `clickhouse_database`
 */
export async function checkDatabase(
  clickhouse: ClickHouseReader & { readonly database: string },
  owner: DatabaseOwner,
  signal?: AbortSignal,
): Promise<void> {
  const [recorded] = await clickhouse.query<DatabaseOwner>(OWNER, {}, { ...(signal && { signal }) });
  if (recorded !== undefined && !isSame(recorded, owner)) throw refusal(clickhouse.database, recorded, owner);
}

/** Whether this owner is recorded. */
export async function isOwnedBy(clickhouse: ClickHouseReader, owner: DatabaseOwner): Promise<boolean> {
  const [recorded] = await clickhouse.query<DatabaseOwner>(OWNER);
  return recorded !== undefined && isSame(recorded, owner);
}

const FIRST_WITHIN_MS = 1_500;
const AGAIN_MS = 30_000;

/**
 * For roles that read: refuses a database of another owner, at the start, or later if ClickHouse is away then or the
 * sink has not created the database yet. Ends with `lifecycle`.
 */
export async function guardDatabase(
  lifecycle: Pick<Lifecycle, "add" | "fail">,
  clickhouse: ClickHouse,
  owner: DatabaseOwner,
  log: Logger,
): Promise<void> {
  const stop = new AbortController();
  const look = async (): Promise<void> => {
    try {
      await checkDatabase(clickhouse, owner, withTimeLimit(stop.signal, FIRST_WITHIN_MS));
    } catch (error) {
      if (error instanceof UsageError) throw error;
      const notYet = ["UNKNOWN_TABLE", "UNKNOWN_DATABASE"].includes(clickHouseErrorType(error) ?? "");
      if (!notYet && !stop.signal.aborted)
        log.debug(`could not read the owner of the database ${clickhouse.database}: ${messageOf(error)}`);
    }
  };
  await look();
  const watching = (async () => {
    for (;;) {
      await sleep(AGAIN_MS, undefined, { signal: stop.signal, ref: false });
      await look();
    }
  })().catch((error: unknown) => {
    if (error instanceof FraudstreamError) lifecycle.fail(error);
  });
  lifecycle.add("owner of the database", () => {
    stop.abort();
    return watching;
  });
}

/**
 * Since when rows belong to the present owner, epoch milliseconds: offsets in rows from before a take-over belong to
 * another cluster. 0: all rows do.
 */
export async function ownedSince(clickhouse: ClickHouseReader): Promise<number> {
  try {
    const [row] = await clickhouse.query<{ since: number }>(
      "SELECT if(count() > 1, toUnixTimestamp64Milli(max(recorded_at)), 0) AS since FROM database_owner",
    );
    return Number(row.since);
  } catch (error) {
    // Not migrated yet by a sink of this version.
    if (clickHouseErrorType(error) === "UNKNOWN_TABLE") return 0;
    throw error;
  }
}

function isSame(one: DatabaseOwner, other: DatabaseOwner): boolean {
  return one.clusterId === other.clusterId && one.topicPrefix === other.topicPrefix;
}

function refusal(database: string, recorded: DatabaseOwner, owner: DatabaseOwner): UsageError {
  return new UsageError(
    "clickhouse_database",
    `CLICKHOUSE_DATABASE: the database ${database} is that of TOPIC_PREFIX ${recorded.topicPrefix} in the ` +
      `Kafka cluster ${recorded.clusterId}, ` +
      (`and this is TOPIC_PREFIX ${owner.topicPrefix} in the cluster ${owner.clusterId}: together they would ` +
        "overwrite each other's labels and metrics. Set CLICKHOUSE_DATABASE to another one. ") +
      ("Where this one has taken the other's place for good (a move, a restore), start the sink with " +
        `CLICKHOUSE_TAKE_OVER=${nameOfOwner(recorded)}`),
  );
}
