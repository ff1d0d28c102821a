import { createRequire } from "node:module";
import { expect, test, vi } from "vitest";
import "../../../../infra/kafka/kafkajs.js";

interface Queue { pending: { sendRequest: () => void }[]; throttledUntil: number; throttleCheckTimeoutId: NodeJS.Timeout | null; checkPendingRequests: () => void; destroy: () => void }
type QueueClass = new (options: object) => Queue;

/** kafkajs' own queue of a connection's requests, as loaded by infra/kafka. */
function openQueue(): Queue {
  const RequestQueue = createRequire(import.meta.url)("kafkajs/src/network/requestQueue/index.js") as QueueClass;
  return new RequestQueue({ maxInFlightRequests: 1, requestTimeout: 1_000, enforceRequestTimeout: false, clientId: "test", broker: "b:1", logger: { debug: () => undefined } });
}

test("an idle connection of kafkajs keeps no timer", () => {
  const queue = openQueue();
  queue.checkPendingRequests();
  expect(queue.throttleCheckTimeoutId).toBeNull();
});

test("a request that waits out a broker's throttling is looked at when it is over", () => {
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
