import { describe, expect, test } from "vitest";
import { partitionOfKey } from "../../../../infra/kafka/murmur2.js";
import { readHeaders } from "../../../../infra/kafka/records.js";
import { readRecords } from "../../../../infra/kafka/record-reader.js";
import { PartitionOutput } from "../../../../infra/kafka/partition-output.js";
import { FORWARDED_FROM, forwardTo, forwardedHeaders } from "../../../../pipelines/transactions/placement.js";
import { fetchedRecords } from "../../../support/fetched-records.js";

const TOPIC = "fraud.transactions";
const PARTITIONS = 4;
const CARD = Buffer.from("card-1");
const HOME = partitionOfKey(CARD, 0, CARD.length, PARTITIONS);
const ELSEWHERE = (HOME + 1) % PARTITIONS;

function placed(partition: number, headers: [string, Buffer | null][], partitions = PARTITIONS): number {
  return forwardTo(
    fetchedRecords({ topic: TOPIC, partition, firstOffset: 42 }, [{ value: CARD, headers }]),
    0,
    partitions,
    CARD,
    0,
    CARD.length,
  );
}

const header = (name: string, value: string): [string, Buffer] => [name, Buffer.from(value)];

describe("where a transaction counts", () => {
  test("it counts in its card's partition, whatever its headers say", () => {
    expect(placed(HOME, [])).toBe(-1);
    expect(placed(HOME, [header(FORWARDED_FROM, `${TOPIC}/${ELSEWHERE}/7`)])).toBe(-1);
    expect(placed(HOME, [header("forwarded", `${TOPIC}/${ELSEWHERE}/7`)])).toBe(-1);
    expect(placed(HOME, [header("forwarded", "for=192.0.2.60;proto=http")])).toBe(-1);
  });

  test.each([
    ["none", []],
    [
      "HTTP's own header of that name",
      [header("forwarded", "for=192.0.2.60;proto=http;by=203.0.113.43"), header("forwarded", "for=198.51.100.17")],
    ],
    ["a flag", [header("forwarded", "true")]],
    ["no value", [["forwarded", null] as [string, null], [FORWARDED_FROM, null] as [string, null]]],
    ["another topic's place", [header(FORWARDED_FROM, "payments/1/5"), header(FORWARDED_FROM, "payments/2/6")]],
    ["a partition that isn't there", [header(FORWARDED_FROM, `${TOPIC}/4/5`), header(FORWARDED_FROM, `${TOPIC}/9/5`)]],
    [
      "an offset that can't be",
      [header(FORWARDED_FROM, `${TOPIC}/1/-5`), header(FORWARDED_FROM, `${TOPIC}/1/9999999999999999`)],
    ],
    [
      "a place that nothing was sent here from, since the card belongs elsewhere",
      [header(FORWARDED_FROM, `${TOPIC}/${ELSEWHERE}/5`)],
    ],
    ["the same place twice", [header(FORWARDED_FROM, `${TOPIC}/1/5`), header("forwarded", `${TOPIC}/1/5`)]],
  ])("in another partition it is forwarded, with these headers: %s", (_name, headers) => {
    expect(placed(ELSEWHERE, headers)).toBe(HOME);
  });

  test("workers that disagree about the partition count do not forward it back and forth for ever", () => {
    let partition = ELSEWHERE;
    let headers: [string, Buffer | null][] = [header("forwarded", "for=192.0.2.60")];
    let hops = 0;
    for (; hops < 10; hops++) {
      // As if no worker ever took a partition for the right one.
      const records = fetchedRecords({ topic: TOPIC, partition, firstOffset: hops }, [{ value: CARD, headers }]);
      if (forwardTo(records, 0, PARTITIONS, CARD, 0, CARD.length) < 0) break;
      headers = headersOf(forwardedHeaders(records, 0));
    }
    expect(hops).toBe(2);
    expect(headers.map(([name, value]) => `${name}: ${value?.toString()}`)).toEqual([
      "forwarded: for=192.0.2.60",
      `${FORWARDED_FROM}: ${TOPIC}/${ELSEWHERE}/0`,
      `${FORWARDED_FROM}: ${TOPIC}/${ELSEWHERE}/1`,
    ]);
    // A record that an earlier version has sent on counts as sent on once.
    partition = ELSEWHERE;
    expect(placed(partition, [header("forwarded", `${TOPIC}/2/5`), header(FORWARDED_FROM, `${TOPIC}/3/6`)])).toBe(-1);
  });
});

function headersOf(encoded: Buffer): [string, Buffer | null][] {
  const output = new PartitionOutput(TOPIC, 0);
  output.append(null, null, encoded);
  const bytes = output.batches[0].finish(1, {
    producerId: -1n,
    producerEpoch: -1,
    firstSequence: -1,
    transactional: false,
  });
  return readHeaders(readRecords({ topic: TOPIC, partition: 0, from: 0, bytes, aborted: [], lastStableOffset: 1 }), 0);
}
