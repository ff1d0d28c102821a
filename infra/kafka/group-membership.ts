import { setTimeout as sleep } from "node:timers/promises";
import type { Consumer, Kafka } from "kafkajs";
import { RETRY, retry } from "../async/retry.js";
import type { Logger } from "../logging.js";
import { call, type KafkaCluster } from "./cluster.js";
import { messageOf } from "../../schemas/errors.js";
import { KafkaError, toKafkaError } from "./errors.js";
import { kafkajs, mayComeBack, onceReached } from "./kafkajs.js";
import { stickyAssigner, type Claim } from "./sticky-assigner.js";
import { offsetFetchV8 } from "./wire.js";

export interface TopicPartition {
  topic: string;
  partition: number;
}

export interface MembershipOptions {
  kafka: Kafka;
  group: string;
  topics: string[];
  log: Logger;
  /** Called after every rebalance with all partitions that this member now owns. Synchronous; must not throw. */
  onAssigned: (assigned: TopicPartition[]) => void;
  /** The membership is lost for good. */
  onFailure: (error: Error) => void;
}

/** A member that doesn't answer for this long is taken for dead; the shortest time that brokers allow by default. */
const SESSION_TIMEOUT_MS = 6_000;
/** A coordinator may be silent for this long while members gather, and not much longer (watched-socket.ts). */
const REBALANCE_TIMEOUT_MS = 8_000;
const HEARTBEAT_MS = 500;
/** Leaving is only a courtesy: the group notices a missing member after the session time-out. */
const LEAVE_WITHIN_MS = 3_000;
/** How soon a topic that gained partitions, or was created again, is noticed and assigned anew. */
const METADATA_AGE_MS = 3_000;

/**
 * Membership in a consumer group: which partitions are ours. It reads no records: kafkajs consumes with every partition
 * paused, which keeps the heartbeats going and rejoins after rebalances (infra/decisions/0002).
 */
export class GroupMembership {
  readonly #options: MembershipOptions;
  readonly #consumer: Consumer;
  /** Keys of the partitions that are ours; none while we are not a member. */
  #assigned = new Set<string>();
  /** What was ours at the last assignment: what this member would like to keep. */
  #claim: Claim | null = null;
  #stopping = false;
  #rejoining: Promise<void> | null = null;
  #comingBack: Promise<void> | null = null;
  /** kafkajs' consumer has ended and has not been started again yet. */
  #crashed = false;

  constructor(options: MembershipOptions) {
    this.#options = options;
    const { kafka, group } = options;
    this.#consumer = kafka.consumer({
      groupId: group,
      // In a rolling upgrade, members of a version without the first one have the second in common with us.
      partitionAssigners: [stickyAssigner(() => this.#claim), kafkajs.PartitionAssigners.roundRobin],
      sessionTimeout: SESSION_TIMEOUT_MS,
      rebalanceTimeout: REBALANCE_TIMEOUT_MS,
      heartbeatInterval: HEARTBEAT_MS,
      maxWaitTimeInMs: HEARTBEAT_MS / 2,
      metadataMaxAge: METADATA_AGE_MS,
      retry: {
        initialRetryTime: 100,
        maxRetryTime: 2_000,
        retries: Number.MAX_SAFE_INTEGER,
        // A crash while leaving would make kafkajs rejoin after it has left: a member whose partitions nobody serves.
        restartOnFailure: () => Promise.resolve(!this.#stopping),
      },
    });
  }

  async start(): Promise<void> {
    const { topics, onAssigned, onFailure } = this.#options;
    const { GROUP_JOIN, CRASH } = this.#consumer.events;
    this.#consumer.on(GROUP_JOIN, ({ payload }) => {
      this.#consumer.pause(topics.map((topic) => ({ topic })));
      const assigned = Object.entries(payload.memberAssignment).flatMap(([topic, partitions]) =>
        partitions.map((partition) => ({ topic, partition })),
      );
      this.#assigned = new Set(assigned.map(partitionKey));
      this.#claim = { at: Date.now(), partitions: payload.memberAssignment };
      onAssigned(assigned);
    });
    this.#consumer.on(CRASH, ({ payload }) => {
      this.#assigned.clear();
      // kafkajs restarts itself after errors that it takes for transient. A cluster that is away is no more than that,
      // too.
      if (payload.restart || this.#stopping) return;
      if (!mayComeBack(payload.error)) return void onFailure(payload.error);
      this.#crashed = true;
      this.#comingBack ??= this.#comeBack()
        .catch(onFailure)
        .finally(() => (this.#comingBack = null));
    });
    try {
      await onceReached(this.#options.kafka, async () => {
        await this.#consumer.connect();
        await this.#consumer.subscribe({ topics, fromBeginning: true });
      });
    } catch (error) {
      // Otherwise its connections would keep the process alive.
      await this.#consumer.disconnect();
      throw error;
    }
    if (!this.#stopping) await this.#run();
  }

  /** After a crash that ended kafkajs' consumer: joins again, as often as it takes. */
  async #comeBack(): Promise<void> {
    while (this.#crashed && !this.#stopping) {
      this.#crashed = false;
      await sleep(RETRY.away.firstMs);
      if (this.#stopping) return;
      try {
        await this.#consumer.connect();
        // Doesn't throw if it can't join: it crashes again.
        await this.#run();
      } catch (error) {
        if (!mayComeBack(error)) throw error;
        this.#crashed = true;
        this.#options.log.warn(`${this.#options.group} can't be joined yet: ${messageOf(error)}`);
      }
    }
  }

  /** Leaves the group and rejoins it, so that what was ours is assigned anew. */
  rejoin(): Promise<void> {
    this.#rejoining ??= this.#leaveAndRun().finally(() => (this.#rejoining = null));
    return this.#rejoining;
  }

  /**
   * Commits offsets as this member.
   *
   * @throws KafkaError when the group has moved on without this member, `kafka_not_assigned` when a partition is
   *   another's
   */
  async commit(offsets: readonly (TopicPartition & { offset: number; metadata?: string })[]): Promise<void> {
    this.#checkAssigned(offsets);
    try {
      await this.#consumer.commitOffsets(
        offsets.map(({ topic, partition, offset, metadata = "" }) => ({
          topic,
          partition,
          offset: String(offset),
          metadata,
        })),
      );
    } catch (error) {
      throw toKafkaError(error, `committing offsets of ${this.#options.group}`);
    }
    // kafkajs reports nothing if it commits nothing because it has just left.
    this.#checkAssigned(offsets);
  }

  /**
   * A broker knows the members of a group, not which member owns a partition: it would let any member move any offset
   * back.
   */
  #checkAssigned(offsets: readonly TopicPartition[]): void {
    const other = offsets.find((offset) => !this.#assigned.has(partitionKey(offset)));
    if (other !== undefined)
      throw new KafkaError(
        "NOT_ASSIGNED",
        `committing offsets of ${this.#options.group}: ${partitionKey(other)} is not this member's`,
        { retriable: false },
      );
  }

  /** Leaves the group. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#assigned.clear();
    const left = (async () => {
      await this.#rejoining?.catch(() => {});
      await this.#comingBack;
      await this.#consumer.disconnect();
    })();
    left.catch(() => {});
    await Promise.race([left, sleep(LEAVE_WITHIN_MS, undefined, { ref: false })]);
  }

  async #leaveAndRun(): Promise<void> {
    this.#assigned.clear();
    await this.#consumer.stop();
    if (!this.#stopping) await this.#run();
  }

  #run(): Promise<void> {
    return this.#consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: () => Promise.resolve() });
  }
}

function partitionKey({ topic, partition }: TopicPartition): string {
  return `${topic}[${partition}]`;
}

/**
 * The committed offset of a group in a partition; null: none. Unlike kafkajs, waits for transactions that are about to
 * change it (KIP-447's "require stable").
 *
 * @throws KafkaError `kafka_unstable_offset_commit` if they are still open after `patienceMs`
 */
export async function committedOffset(
  cluster: KafkaCluster,
  group: string,
  partition: TopicPartition,
  patienceMs: number = RETRY.kafkaAtStart.forMs,
): Promise<number | null> {
  return (await committedPosition(cluster, group, partition, patienceMs))?.offset ?? null;
}

/** The same, with the metadata that was committed with it. */
export async function committedPosition(
  cluster: KafkaCluster,
  group: string,
  { topic, partition }: TopicPartition,
  patienceMs: number = RETRY.kafkaAtStart.forMs,
): Promise<{ offset: number; metadata: string | null } | null> {
  return retry(
    async () => {
      const connection = await cluster.open(await cluster.coordinatorOf("group", group));
      try {
        const groups = [{ groupId: group, memberEpoch: -1, topics: [{ name: topic, partitionIndexes: [partition] }] }];
        const response = await call(
          connection,
          offsetFetchV8.api,
          [groups, true],
          `fetching the committed offset of ${group} in ${topic}[${partition}]`,
        );
        const { committedOffset: offset, metadata } = response.groups[0].topics[0].partitions[0];
        return offset < 0n ? null : { offset: Number(offset), metadata: metadata ?? null };
      } finally {
        await connection.close();
      }
    },
    { ...RETRY.kafkaRequest, forMs: patienceMs },
  );
}
