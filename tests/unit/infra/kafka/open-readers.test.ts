import { describe, expect, test } from "vitest";
import { decodeMark, encodeMark, formerTopicOf, NO_TOPIC_ID } from "../../../../infra/kafka/offset-mark.js";
import { hasWaited, isWaiting, waitAfter, type OpenTransactionWait } from "../../../../infra/kafka/open-readers.js";

describe("a committed offset says which topic it belongs to", () => {
  const here = { topicId: "new", cluster: "here", gaps: [] };

  test("an offset of an earlier topic of this name does not belong to the current one", () => {
    expect(formerTopicOf(decodeMark(encodeMark({ topicId: "old", cluster: "here", gaps: [] })), here)).toBe("old");
    // As it was written before the cluster was kept with it.
    expect(formerTopicOf(decodeMark('{"topic_id":"old"}'), here)).toBe("old");
    expect(formerTopicOf(decodeMark(encodeMark(here)), here)).toBeNull();
  });

  test(
    "one that a mirror has translated for its cluster counts, though its metadata names the topic of the " +
      "other cluster",
    () => {
      const copied = encodeMark({ topicId: "theirs", cluster: "there", gaps: [] });
      expect(formerTopicOf(decodeMark(copied), here)).toBeNull();
    },
  );

  test("an offset from before topics had ids counts, and so does one committed by somebody else", () => {
    expect(formerTopicOf(decodeMark(encodeMark({ topicId: NO_TOPIC_ID, cluster: "here", gaps: [] })), here)).toBeNull();
    expect(formerTopicOf(decodeMark("committed by hand"), here)).toBeNull();
  });
});

describe("a reader behind an open transaction", () => {
  const behind = { nextOffset: 10, lastStableOffset: 10, highWatermark: 12 };

  test("that has reached one by chance and reads no further does not count as waiting there", () => {
    const wait = waitAfter(null, behind, 1_000) as OpenTransactionWait;
    expect(hasWaited(wait, 5_000, 1_000)).toBe(false);
    expect(hasWaited(wait, 5_000, 9_000)).toBe(false);
    expect(isWaiting(wait, 3_600_000)).toBe(false);
  });

  test("that keeps meeting the same one counts as waiting there, until it is over", () => {
    let wait: OpenTransactionWait | null = null;
    for (let now = 1_000; now <= 6_000; now += 500) wait = waitAfter(wait, behind, now);
    expect(hasWaited(wait as OpenTransactionWait, 5_000, 6_400)).toBe(true);
    expect(waitAfter(wait, { nextOffset: 12, lastStableOffset: 12, highWatermark: 12 }, 6_500)).toBeNull();
    // Another one begins where the last one ended: the wait begins anew.
    expect(waitAfter(wait, { nextOffset: 12, lastStableOffset: 12, highWatermark: 13 }, 7_000)).toMatchObject({
      since: 7_000,
    });
    // Its last look was long ago: it reads no further, or not for now.
    expect(hasWaited(wait as OpenTransactionWait, 5_000, 60_000)).toBe(false);
  });
});
