import { setTimeout as sleep } from "node:timers/promises";
import type { Admin } from "kafkajs";
import { messageOf } from "../../schemas/errors.js";
import type { Feed } from "./feed.js";
import { readTopics, type Seen } from "./reading.js";
import { behindIn, openIn } from "./settle.js";
import type { System } from "./system.js";
import { LAST, type RecreatedTopic } from "./traffic.js";

/** A topic that was deleted and created again, as it was when nothing more was written to it. */
export interface FormerTopic {
  topic: RecreatedTopic;
  records: Seen[];
  /** By partition: what stood from here on was not seen. */
  ends: number[];
  /** Whether every role had read all of it; otherwise what had not been read is gone. */
  drained: boolean;
  /** Epoch milliseconds: before anything of it was deleted. */
  deletedAt: number;
}

const DRAIN_PATIENCE_MS = 45_000;
const DRAINED_LOOKS = 2;
const LOOK_EVERY_MS = 500;
/** What is published at last where it is to be gone before it was read. */
const BURST = 800;
/** How often readers are stopped until none of them is stopped within a transaction. */
const STOP_TRIES = 40;
const PATIENCE_MS = 180_000;
let deletions = 0;

/**
 * Deletes a topic and creates it again while all runs. Traffic stands still meanwhile: what was acknowledged is in what
 * is read here, or in the new topic.
 *
 * @param drain waits until all of it has been read; otherwise the readers are stopped, and what is published then is
 *   deleted unread
 * @param free copies of roles that nobody else disturbs
 * @returns null where it was to be read first and was not, in time: roles still send records on in it, and what they
 *   write between the last look and the deletion would be seen by nobody
 */
export async function recreate(
  system: System,
  feed: Feed,
  {
    topic,
    drain,
    free,
    signal,
  }: { topic: RecreatedTopic; drain: boolean; free: readonly string[]; signal: AbortSignal },
): Promise<FormerTopic | null> {
  const { name } = system.test.topics[topic];
  if (drain && !(await isDrained(system, topic, signal))) return null;
  const stopped = drain ? [] : await stopReaders(system, topic, free, signal);
  const admin = system.kafkaJs.admin();
  try {
    if (!drain && topic === "transactions") await feed.burst(BURST);
    const mark = `${name} ${(deletions += 1)}`;
    const { partitions } = system.current(system.test.topics[topic]);
    await feed.publishLast(topic, partitions, mark);
    // The last ones are records like all others.
    if (drain && !(await isDrained(system, topic, signal))) return null;
    const records: Seen[] = [];
    const ends = Array.from({ length: partitions }, () => 0);
    await readTopics(
      system.kafkaJs,
      [{ name, partitions }],
      (_, seen) => {
        records.push(seen);
        ends[seen.partition] = seen.offset + 1;
      },
      { isLast: ({ headers }) => headers[LAST] === mark },
    );
    const deletedAt = Date.now();
    await deleteTopic(admin, name, signal);
    for (const slot of stopped.splice(0)) system.slot(slot).resume();
    await createTopic(admin, name, partitions, signal);
    return { topic, records, ends, drained: drain, deletedAt };
  } finally {
    for (const slot of stopped) system.slot(slot).resume();
    await admin.disconnect().catch(() => {});
  }
}

/** Waits until whoever must have read all of a topic has, for a bounded time. */
async function isDrained(system: System, topic: RecreatedTopic, signal: AbortSignal): Promise<boolean> {
  const { prefix, topics } = system.test;
  const spec = system.current(topics[topic]);
  const groups = topic === "transactions" ? ["scoring", "merchants", "sink"] : ["sink"];
  const deadline = Date.now() + DRAIN_PATIENCE_MS;
  for (let quiet = 0; Date.now() < deadline && !signal.aborted; await sleep(LOOK_EVERY_MS)) {
    const behind: string[] = [];
    try {
      for (const group of groups) behind.push(...(await behindIn(system, `${prefix}${group}`, spec)));
      behind.push(...(await openIn(system, spec)));
    } catch (error) {
      behind.push(messageOf(error));
    }
    quiet = behind.length === 0 ? quiet + 1 : 0;
    if (quiet === DRAINED_LOOKS) return true;
  }
  return false;
}

/**
 * Stops what reads a topic, but not within a transaction that is open in it: it could not be read then. @returns those
 * that stand still
 */
async function stopReaders(
  system: System,
  topic: RecreatedTopic,
  free: readonly string[],
  signal: AbortSignal,
): Promise<string[]> {
  const readers = free.filter((name) => /^(scoring|sink|merchants)-/.test(name));
  for (let tries = 0; tries < STOP_TRIES && !signal.aborted; tries++) {
    for (const name of readers) system.slot(name).pause();
    await sleep(30);
    const open = await openIn(system, system.current(system.test.topics[topic])).catch((error: unknown) => [
      messageOf(error),
    ]);
    if (open.length === 0) return readers;
    for (const name of readers) system.slot(name).resume();
    await sleep(100);
  }
  return [];
}

async function deleteTopic(admin: Admin, name: string, signal: AbortSignal): Promise<void> {
  await untilDone(signal, async () => {
    await admin.connect();
    await admin.deleteTopics({ topics: [name], timeout: 5_000 }).catch((error: unknown) => {
      // By a call whose answer was lost.
      if (!messageOf(error).includes("does not host this topic")) throw error;
    });
  });
}

/** A role that starts meanwhile creates it, too: with as many partitions as are configured. */
async function createTopic(admin: Admin, name: string, partitions: number, signal: AbortSignal): Promise<void> {
  await untilDone(signal, async () => {
    await admin.connect();
    await admin
      .createTopics({ topics: [{ topic: name, numPartitions: partitions }], waitForLeaders: false, timeout: 5_000 })
      .catch(() => {});
    await addPartitions(admin, name, partitions);
    await admin.fetchTopicOffsets(name);
  });
}

/** Gives a topic so many partitions. */
export async function addPartitions(admin: Admin, name: string, partitions: number): Promise<void> {
  const {
    topics: [found],
  } = await admin.fetchTopicMetadata({ topics: [name] });
  if (found.partitions.length < partitions)
    await admin.createPartitions({ topicPartitions: [{ topic: name, count: partitions }], timeout: 5_000 });
}

export async function untilDone(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(LOOK_EVERY_MS)) {
    try {
      return await work();
    } catch (error) {
      if (signal.aborted || Date.now() > deadline) throw error;
    }
  }
}
