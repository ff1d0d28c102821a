import { describe, expect, it } from "vitest";
import { onceReached } from "../../../../infra/kafka/kafkajs.js";
import { UsageError } from "../../../../schemas/errors.js";

const kafka = (said: string[]): Parameters<typeof onceReached>[0] => ({
  logger: () => ({ error: (line: string) => void said.push(line) }) as never,
});
/** As kafkajs throws it. */
const named = (name: string, message: string, cause?: Error): Error =>
  Object.assign(new Error(message, { cause }), { name });

describe("onceReached", () => {
  it.concurrent.each<[string, Error]>([
    [
      "an answer that kafkajs takes for granted",
      new TypeError("Cannot destructure property 'topicMetadata' of '(intermediate value)' as it is null."),
    ],
    ["a connection that is closed", named("KafkaJSConnectionClosedError", "Closed connection")],
    [
      "what that was the cause of",
      named("KafkaJSNonRetriableError", "no answer", named("KafkaJSConnectionError", "refused")),
    ],
    ["a broker that kafkajs has lost", new Error("Broker not connected")],
    [
      "a topic that is being created again",
      Object.assign(named("KafkaJSProtocolError", "This server does not host this topic-partition"), {
        type: "UNKNOWN_TOPIC_OR_PARTITION",
      }),
    ],
  ])("retries after %s, and reports it once", async (_what, error) => {
    const said: string[] = [];
    let tries = 0;
    const work = (): Promise<string> => (++tries < 3 ? Promise.reject(error) : Promise.resolve("done"));
    expect(await onceReached(kafka(said), work)).toBe("done");
    expect(tries).toBe(3);
    expect(said).toEqual([expect.stringContaining(error.message)]);
  });

  it.each<[string, Error]>([
    ["a user's mistake", new UsageError("partition_count", "other partitions")],
    ["a wrong password", named("KafkaJSSASLAuthenticationError", "bad credentials")],
    ["what isn't known", new Error("something else")],
  ])("gives up at once after %s", async (_what, error) => {
    let tries = 0;
    const work = (): Promise<never> => Promise.reject(++tries === 1 ? error : new Error("again"));
    await expect(onceReached(kafka([]), work)).rejects.toBe(error);
    expect(tries).toBe(1);
  });
});
