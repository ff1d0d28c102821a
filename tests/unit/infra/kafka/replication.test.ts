import { describe, expect, test } from "vitest";
import { replicationFor, riskOf } from "../../../../infra/kafka/replication.js";

const unset = { factor: null, minInsync: null };

describe("copies of new topics", () => {
  test("three, two of them in sync, if there are three brokers; otherwise the brokers' own default", () => {
    for (const brokers of [3, 4, 30])
      expect(replicationFor(brokers, unset)).toEqual({ factor: 3, settings: { "min.insync.replicas": "2" } });
    for (const brokers of [1, 2]) expect(replicationFor(brokers, unset)).toEqual({ factor: -1, settings: {} });
  });

  test("follow the settings", () => {
    expect(replicationFor(5, { factor: 5, minInsync: 3 })).toEqual({
      factor: 5,
      settings: { "min.insync.replicas": "3" },
    });
    expect(replicationFor(3, { factor: 1, minInsync: null })).toEqual({ factor: 1, settings: {} });
    expect(replicationFor(3, { factor: null, minInsync: 1 })).toEqual({
      factor: 3,
      settings: { "min.insync.replicas": "1" },
    });
    expect(replicationFor(2, { factor: 2, minInsync: null })).toEqual({ factor: 2, settings: {} });
  });

  test("more than the cluster can have are a user's mistake, reported in one line", () => {
    expect(() => replicationFor(1, { factor: 3, minInsync: null })).toThrow(
      "KAFKA_REPLICATION_FACTOR is 3, but the cluster has 1 broker",
    );
    expect(() => replicationFor(3, { factor: null, minInsync: 4 })).toThrow(
      /KAFKA_MIN_INSYNC_REPLICAS is 4, but topics get 3 copies/,
    );
  });
});

test("topics from which a lost broker takes acknowledged records are reported in one line", () => {
  const topics = [
    { name: "a", copies: 1, minInsync: 1 },
    { name: "b", copies: 3, minInsync: 1 },
    { name: "c", copies: 3, minInsync: 2 },
    { name: "d", copies: 3, minInsync: null },
  ];
  expect(riskOf(topics, 3)).toMatch(
    new RegExp(
      "^topics can lose acknowledged records with a single broker: kept by one of 3 brokers: a \\(.+\\); " +
        "acknowledged by one broker, min\\.insync\\.replicas=1: b \\(.+\\)$",
    ),
  );
  expect(riskOf(topics.slice(2), 3)).toBeNull();
  // With one broker there is nothing to choose.
  expect(riskOf(topics, 1)).toBeNull();
});
