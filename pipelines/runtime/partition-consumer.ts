import { setTimeout as sleep } from "node:timers/promises";
import type { Kafka } from "kafkajs";
import { RETRY, pauseBefore } from "../../infra/async/retry.js";
import type { Conditions } from "../../infra/health/conditions.js";
import type { Logger } from "../../infra/logging.js";
import type { KafkaCluster } from "../../infra/kafka/cluster.js";
import { KafkaError } from "../../infra/kafka/errors.js";
import type { LogIncident } from "../../infra/kafka/log-incidents.js";
import { GroupMembership, committedPosition, type TopicPartition } from "../../infra/kafka/group-membership.js";
import { addGaps, decodeMark, encodeMark, formerTopicOf, type OffsetMark } from "../../infra/kafka/offset-mark.js";
import { PartitionReader, type PartitionReaderOptions } from "../../infra/kafka/partition-reader.js";
import type { FetchedRecords } from "../../infra/kafka/records.js";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";

/** Handles one partition while it is ours. */
export interface PartitionHandler {
  /** The next records, in order; the following batch is fetched meanwhile. An error ends the tenure. */
  process(records: FetchedRecords): Promise<void>;
  /** The tenure is over: no more records come, and work under way must not be waited for long. */
  close(): Promise<void>;
}

export interface Tenure extends TopicPartition {
  /** Aborts when the partition is no longer ours, or the role stops. */
  signal: AbortSignal;
  /** Committed with each offset of this tenure. */
  mark: OffsetMark;
  /** Where the group's consumption of this partition stands; asks Kafka when it is called. */
  committed(): Promise<Standing>;
}

/**
 * Where a group stands in a log, or why its committed offset doesn't tell:
 * - `none`: there is no committed offset: the group is new, or Kafka has forgotten it (`offsets.retention.minutes`);
 * - `recreated`: the offset belongs to an earlier topic of this name;
 * - `cut_off`: the log ends before it.
 */
export type Standing = { offset: number; why: "committed" } | { offset: null; why: "none" | "recreated" | "cut_off" };

export interface LiveTenure extends Tenure {
  /** Ends the tenure with an error although no record has come; the next tenure begins, as after any error. */
  fail(error: unknown): void;
}

export interface PartitionConsumerOptions {
  cluster: KafkaCluster;
  kafka: Kafka;
  log: Logger;
  group: string;
  topics: string[];
  /**
   * Begins a tenure: prepares the handler and returns the offset from which it wants records. Null: from the log's
   * beginning.
   */
  open: (tenure: LiveTenure) => Promise<{ handler: PartitionHandler; start: number | null }>;
  /** Called with an error that retrying cannot fix. */
  onFailure: (error: unknown) => void;
  reader?: Omit<PartitionReaderOptions, "signal">;
  /** Where it reports that nothing can be fetched. @default nowhere */
  conditions?: Conditions;
}

interface Loop {
  abort: AbortController;
  done: Promise<void>;
  reading: Reading;
}

/** Whether a partition is being read, to explain why no records come. */
interface Reading {
  /** Epoch milliseconds since when a fetch, or a tenure, has been unfinished; null: nothing is being waited for. */
  waitingSince: number | null;
  trouble: string | null;
}

const STOP_WITHIN_MS = 6_000;
/** A partition that could not be read for this long, on top of what a fetch may wait for records, is reported. */
const SILENT_MS = 10_000;
const LOOK_EVERY_MS = 2_000;

/**
 * Consumes the partitions that a group assigns to this process, each in its own loop: a tenure begins when the
 * partition is assigned, and begins again after a transient error. Being fenced is different: then the worker leaves
 * the group and rejoins it, so that two owners never take turns fencing each other.
 */
export class PartitionConsumer {
  readonly #options: PartitionConsumerOptions;
  readonly #membership: GroupMembership;
  readonly #loops = new Map<string, Loop>();
  /** Topic ids that each topic name has stood for since this process started. */
  readonly #topicIds = new Map<string, Set<string>>();
  /** Marks of the running tenures. */
  readonly #marks = new Map<string, OffsetMark>();
  /** Incidents already reported: a tenure that begins again meets the same ones. */
  readonly #reported = new Set<string>();
  /** Loops of partitions that were revoked and that have not ended yet. */
  readonly #ending = new Map<string, Promise<void>>();
  #stopped = false;
  #looking: NodeJS.Timeout | null = null;

  constructor(options: PartitionConsumerOptions) {
    this.#options = options;
    const { kafka, group, topics, log, onFailure } = options;
    this.#membership = new GroupMembership({
      kafka,
      group,
      topics,
      log,
      onAssigned: (assigned) => this.#assign(assigned),
      onFailure,
    });
  }

  /** The partitions that are ours now. */
  get assigned(): TopicPartition[] {
    return [...this.#loops.keys()]
      .map((key) => JSON.parse(key) as [string, number])
      .map(([topic, partition]) => ({ topic, partition }));
  }

  start(): Promise<void> {
    if (this.#options.conditions !== undefined) this.#looking = setInterval(() => this.#look(), LOOK_EVERY_MS);
    return this.#membership.start();
  }

  /** Ends the tenures after the current batch and leaves the group. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#looking !== null) clearInterval(this.#looking);
    // Another consumer may follow in this process, and get other partitions.
    for (const key of this.#loops.keys()) this.#options.conditions?.clear("kafka_silent", subjectOf(key));
    const loops = [...this.#loops.values()];
    for (const loop of loops) loop.abort.abort();
    const ended = Promise.all([...loops.map((loop) => loop.done), ...this.#ending.values()]);
    // A tenure that waits for a lost broker holds nothing that the next owner would not settle.
    await Promise.race([ended, sleep(STOP_WITHIN_MS, undefined, { ref: false })]);
    await this.#membership.stop();
  }

  /** Commits offsets as a member of the group; refused when the group has moved on. */
  commit(offsets: readonly (TopicPartition & { offset: number })[]): Promise<void> {
    return this.#membership.commit(
      offsets.map((offset) => {
        const mark = this.#marks.get(loopKey(offset));
        return mark === undefined ? offset : { ...offset, metadata: encodeMark(mark) };
      }),
    );
  }

  #assign(assigned: TopicPartition[]): void {
    if (this.#stopped) return;
    const wanted = new Map(assigned.map((partition) => [loopKey(partition), partition]));
    for (const key of [...this.#loops.keys()]) if (!wanted.has(key)) this.#end(key);
    for (const [key, partition] of wanted) {
      if (this.#loops.has(key)) continue;
      const abort = new AbortController();
      // A partition that comes back waits until its former tenure here has ended.
      const reading: Reading = { waitingSince: null, trouble: null };
      const done = (this.#ending.get(key) ?? Promise.resolve()).then(() =>
        this.#consume(partition, abort.signal, reading),
      );
      this.#loops.set(key, { abort, done, reading });
    }
  }

  #end(key: string): void {
    const loop = this.#loops.get(key);
    if (loop === undefined) return;
    this.#loops.delete(key);
    this.#options.conditions?.clear("kafka_silent", subjectOf(key));
    const ended = loop.done.finally(() => this.#ending.get(key) === ended && this.#ending.delete(key));
    this.#ending.set(key, ended);
    loop.abort.abort();
  }

  /** Reports partitions that can't be read; if none of them can, the role isn't ready. */
  #look(): void {
    const { conditions } = this.#options;
    const now = Date.now();
    const patienceMs = SILENT_MS + (this.#options.reader?.maxWaitMs ?? 0);
    const silent = ({ reading: { waitingSince } }: Loop): boolean =>
      waitingSince !== null && now - waitingSince > patienceMs;
    const blocking = [...this.#loops.values()].every(silent);
    for (const [key, loop] of this.#loops) {
      const { waitingSince, trouble } = loop.reading;
      const seconds = Math.round((now - (waitingSince ?? now)) / 1_000);
      const message = (): string =>
        `nothing could be read from ${subjectOf(key)} for ${seconds} s: ` +
        (trouble ?? "its broker does not answer; check the Kafka brokers");
      conditions?.set(silent(loop), "kafka_silent", subjectOf(key), message, { blocking });
    }
  }

  async #consume(partition: TopicPartition, signal: AbortSignal, reading: Reading): Promise<void> {
    const log = this.#options.log.child({ topic: partition.topic, partition: partition.partition });
    for (let failures = 0; !signal.aborted;) {
      try {
        await this.#tenure(partition, signal, reading, () => (failures = 0));
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof KafkaError && error.fenced) {
          log.warn("fenced: another worker owns the partition; leaving and joining the group again");
          for (const key of [...this.#loops.keys()]) this.#end(key);
          void this.#membership.rejoin().catch((failure: unknown) => this.#options.onFailure(failure));
          return;
        }
        // Whatever Kafka answered, taking the partition over again settles the outcome.
        const mayPass =
          (error instanceof KafkaError && !error.refused) || (error instanceof FraudstreamError && error.retriable);
        if (!mayPass) {
          this.#options.onFailure(error);
          return;
        }
        reading.waitingSince ??= Date.now();
        const trouble = messageOf(error);
        // Records that are folded again may come from ClickHouse.
        reading.trouble = error instanceof KafkaError ? `${trouble}; check the Kafka brokers` : trouble;
        const pause = pauseBefore(RETRY.partition, ++failures);
        log.warn({ code: error.code, retryInMs: pause }, trouble);
        await sleep(pause, undefined, { signal }).catch(() => {});
      }
    }
  }

  async #tenure(
    partition: TopicPartition,
    signal: AbortSignal,
    reading: Reading,
    onProgress: () => void,
  ): Promise<void> {
    const { cluster, open } = this.#options;
    const { topicId, cluster: clusterId } = await cluster.identityOf(partition.topic);
    const seen = this.#topicIds.get(partition.topic) ?? new Set();
    this.#topicIds.set(partition.topic, seen.add(topicId));
    const reader = new PartitionReader(cluster, partition.topic, partition.partition, {
      ...this.#options.reader,
      signal,
      topicId,
    });
    const mark: OffsetMark = { topicId, cluster: clusterId, gaps: [] };
    this.#marks.set(loopKey(partition), mark);
    let failure: { error: unknown } | null = null as { error: unknown } | null;
    const fail = (error: unknown): void => {
      failure ??= { error };
      void reader.close();
    };
    const opened = await open({
      ...partition,
      signal,
      mark,
      committed: () => this.#standing(partition, reader, mark),
      fail,
    }).catch(async (error: unknown) => {
      await reader.close();
      throw error;
    });
    const { handler } = opened;
    const onAbort = (): void => void reader.close();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const first = await reader.firstOffset();
      if (first > (opened.start ?? 0)) this.#noteGap(partition, mark, opened.start, first);
      const fetch = (from: number): Promise<FetchedRecords> => {
        const fetching = reader.fetch(from);
        fetching.catch(() => {}); // looked at in the next round, if there is one
        return fetching;
      };
      let next = fetch(Math.max(opened.start ?? first, first));
      while (!signal.aborted) {
        reading.waitingSince ??= Date.now();
        const records = await next;
        reading.waitingSince = reading.trouble = null;
        next = fetch(records.nextOffset);
        if (records.count > 0) await handler.process(records);
        onProgress();
      }
    } catch (error) {
      throw failure?.error ?? error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      await reader.close();
      await handler.close();
    }
  }

  /** Compares the group's committed offset with the log that exists now. */
  async #standing(partition: TopicPartition, reader: PartitionReader, mark: OffsetMark): Promise<Standing> {
    const { cluster, group } = this.#options;
    const where = `${partition.topic}[${partition.partition}]`;
    const committed = await committedPosition(cluster, group, partition);
    const kept = decodeMark(committed?.metadata ?? null);
    const formerIds = [...(this.#topicIds.get(partition.topic) ?? [])].filter((id) => id !== mark.topicId);
    const formerId = committed === null ? formerIds.at(0) : formerTopicOf(kept, mark);
    if (formerId !== null && formerId !== undefined) {
      const message =
        `${where}: the topic was deleted and created again (its id was ${formerId}, now it is ` +
        `${mark.topicId}): ${group} reads it from its beginning. Records of the former one that had not been ` +
        "read are lost";
      // The former topic's records, which its fold held, aren't in this topic's fold.
      addGaps(mark, [{ from: 0, to: 0, until: null }]);
      this.#report(`recreated ${where} ${mark.topicId}`, { kind: "recreated", ...partition, lost: 0, message });
      return { offset: null, why: "recreated" };
    }
    if (committed === null) return { offset: null, why: "none" };
    addGaps(mark, kept.gaps);
    const end = await endBefore(reader, committed.offset);
    if (end === null) return { offset: committed.offset, why: "committed" };
    mark.gaps = kept.gaps.map(({ from, to, until }) => ({ from: Math.min(from, end), to: Math.min(to, end), until }));
    addGaps(mark, [{ from: end, to: end, until: null }]);
    const message =
      `${where}: the log ends at offset ${end}, but ${group} has committed ${committed.offset}: records were ` +
      "lost (an unclean election, a lost copy), or the offset was set by hand. What comes now is read and " +
      "counts as new";
    this.#report(`cut_off ${where} ${committed.offset} ${end}`, {
      kind: "cut_off",
      ...partition,
      lost: committed.offset - end,
      message,
    });
    return { offset: null, why: "cut_off" };
  }

  /** @param start where the group stood; null: it is new here, so it has lost nothing that it should have read */
  #noteGap(partition: TopicPartition, mark: OffsetMark, start: number | null, first: number): void {
    const from = start ?? 0;
    addGaps(mark, [{ from, to: first, until: null }]);
    if (start === null) return;
    const where = `${partition.topic}[${partition.partition}]`;
    const lost = first - from;
    const message =
      `${where}: the topic's retention has deleted offsets ${from} to ${first - 1} (${lost}) before ` +
      `${this.#options.group} had read them. Give the topic a longer retention.ms, or this role more processes`;
    this.#report(`deleted ${where} ${first}`, { kind: "deleted", ...partition, lost, message });
  }

  #report(key: string, incident: LogIncident): void {
    if (this.#reported.has(key)) return;
    this.#reported.add(key);
    this.#options.cluster.incidents.report(incident);
  }
}

const END_LOOKS = 5;
const END_LOOK_EVERY_MS = 200;

/**
 * Where the log ends if that is before an offset, else null. Checked several times: a new leader may not know its end
 * at first.
 */
async function endBefore(reader: PartitionReader, offset: number): Promise<number | null> {
  for (let look = 1; ; look++) {
    const end = await reader.writtenEnd();
    if (end >= offset) return null;
    if (look === END_LOOKS) return end;
    await sleep(END_LOOK_EVERY_MS);
  }
}

/** The partition of a loop's key, as conditions name it. */
function subjectOf(key: string): string {
  const [topic, partition] = JSON.parse(key) as [string, number];
  return `${topic}[${partition}]`;
}

function loopKey({ topic, partition }: TopicPartition): string {
  return JSON.stringify([topic, partition]);
}
