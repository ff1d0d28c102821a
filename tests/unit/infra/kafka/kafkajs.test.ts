import { createRequire } from "node:module";
import { expect, test, vi } from "vitest";
import "../../../../infra/kafka/kafkajs.js";

interface Queue {
  pending: { sendRequest: () => void }[];
  throttledUntil: number;
  throttleCheckTimeoutId: NodeJS.Timeout | null;
  checkPendingRequests: () => void;
  destroy: () => void;
}
type QueueClass = new (options: object) => Queue;

/** kafkajs' own queue of a connection's requests, as loaded by infra/kafka. */
function openQueue(): Queue {
  const RequestQueue = createRequire(import.meta.url)("kafkajs/src/network/requestQueue/index.js") as QueueClass;
  return new RequestQueue({
    maxInFlightRequests: 1,
    requestTimeout: 1_000,
    enforceRequestTimeout: false,
    clientId: "test",
    broker: "b:1",
    logger: { debug: () => undefined },
  });
}

test("an idle kafkajs connection keeps no timer", () => {
  const queue = openQueue();
  queue.checkPendingRequests();
  expect(queue.throttleCheckTimeoutId).toBeNull();
});

test("a request delayed by a broker's throttling is checked when the delay is over", () => {
  vi.useFakeTimers();
  try {
    const queue = openQueue();
    const sent: object[] = [];
    Object.assign(queue, { sendSocketRequest: (request: object) => sent.push(request) });
    queue.throttledUntil = Date.now() + 500;
    queue.pending.push({ sendRequest: () => undefined });
    queue.checkPendingRequests();
    vi.advanceTimersByTime(499);
    expect(sent).toHaveLength(0);
    vi.advanceTimersByTime(20);
    expect(sent).toHaveLength(1);
    expect(queue.throttleCheckTimeoutId).toBeNull();
  } finally {
    vi.useRealTimers();
  }
});

interface Coordinator {
  heartbeat: () => Promise<void>;
}
interface Member {
  coordinator: Coordinator;
  offsetManager: { coordinator: Coordinator; commitOffsets: () => Promise<void> };
  memberId: string;
  lastRequest: number;
  heartbeat: (options: { interval: number }) => Promise<void>;
  commitOffsets: (offsets: object) => Promise<void>;
}

/** kafkajs' own member of a group, whose coordinator does not answer and was taken over by another broker. */
function memberOfLostCoordinator(): { member: Member; taken: Coordinator; beats: string[] } {
  const ConsumerGroup = createRequire(import.meta.url)("kafkajs/src/consumer/consumerGroup.js") as new (
    options: object,
  ) => Member;
  const silent = Object.assign(new Error("the broker did not answer"), { name: "KafkaJSConnectionError" });
  const beats: string[] = [];
  const lost: Coordinator = { heartbeat: () => Promise.reject(silent) };
  const taken: Coordinator = { heartbeat: () => Promise.resolve(void beats.push("to the other one")) };
  const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const cluster = {
    findGroupCoordinator: ({ groupId }: { groupId: string }) =>
      groupId === "g" ? Promise.resolve(taken) : Promise.reject(new Error(groupId)),
  };
  const member = new ConsumerGroup({
    groupId: "g",
    topics: [],
    topicConfigurations: {},
    cluster,
    logger: { ...quiet, namespace: () => quiet },
    instrumentationEmitter: { emit: () => {} },
    retry: {},
    assigners: [],
  });
  const offsetManager = {
    coordinator: lost,
    commitOffsets: () => (offsetManager.coordinator === lost ? Promise.reject(silent) : Promise.resolve()),
  };
  Object.assign(member, { coordinator: lost, memberId: "m", lastRequest: 0, offsetManager });
  return { member, taken, beats };
}

test("a member whose coordinator is silent finds the one that has taken over its group", async () => {
  const { member, taken, beats } = memberOfLostCoordinator();
  await expect(member.heartbeat({ interval: 0 })).rejects.toThrow("did not answer");
  expect(member.coordinator).toBe(taken);
  await member.heartbeat({ interval: 0 });
  expect(beats).toEqual(["to the other one"]);
  expect(member.memberId).toBe("m");
});

test("a commit that no coordinator has answered goes to the one that has taken over the group", async () => {
  const { member } = memberOfLostCoordinator();
  await expect(member.commitOffsets({})).rejects.toThrow("did not answer");
  await member.commitOffsets({});
});
