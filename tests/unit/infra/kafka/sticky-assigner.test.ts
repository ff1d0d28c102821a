import { describe, expect, test } from "vitest";
import { assignSticky, type Assignment, type StickyMember } from "../../../../infra/kafka/sticky-assigner.js";
import { RandomSource } from "../../../support/random-source.js";

const TOPICS = new Map([
  ["transactions", [0, 1, 2, 3, 4, 5, 6, 7]],
  ["labels", [0, 1, 2, 3, 4, 5, 6, 7]],
  ["control", [0]],
]);
const member = (id: string, claim: StickyMember["claim"] = null, topics = [...TOPICS.keys()]): StickyMember => ({
  id,
  topics,
  claim,
});

/** The members as they come to the next assignment. */
const again = (assignment: Assignment, at: number): StickyMember[] =>
  [...assignment].map(([id, topics]) => member(id, { at, partitions: Object.fromEntries(topics) }));
const ownersOf = (assignment: Assignment): Map<string, string> =>
  new Map(
    [...assignment].flatMap(([id, topics]) =>
      [...topics].flatMap(([topic, partitions]) => partitions.map((partition) => [`${topic}[${partition}]`, id])),
    ),
  );
const moved = (before: Assignment, after: Assignment): string[] =>
  [...ownersOf(before)]
    .filter(([partition, owner]) => ownersOf(after).get(partition) !== owner)
    .map(([partition]) => partition);
const counts = (assignment: Assignment, topic: string): number[] =>
  [...assignment.values()].map((topics) => topics.get(topic)?.length ?? 0).sort();

describe("assignSticky", () => {
  test("gives each partition to one member, as evenly as possible", () => {
    const assignment = assignSticky(
      ["a", "b", "c"].map((id) => member(id)),
      TOPICS,
    );
    expect(ownersOf(assignment).size).toBe(17);
    for (const topic of ["transactions", "labels"]) expect(counts(assignment, topic)).toEqual([2, 3, 3]);
    const totals = [...assignment.values()].map((topics) => [...topics.values()].flat().length);
    expect(Math.max(...totals) - Math.min(...totals)).toBeLessThanOrEqual(1);
  });

  test("a member that leaves and comes back moves its own partitions, and no others", () => {
    const three = assignSticky(
      ["a", "b", "c"].map((id) => member(id)),
      TOPICS,
    );
    const two = assignSticky(
      again(three, 1).filter(({ id }) => id !== "b"),
      TOPICS,
    );
    const ofB = [...ownersOf(three)].filter(([, owner]) => owner === "b").map(([partition]) => partition);
    expect(moved(three, two)).toEqual(ofB);
    // The next version of it is another member, and takes no more than its share.
    const back = assignSticky([...again(two, 2), member("b2")], TOPICS);
    const ofB2 = [...ownersOf(back)].filter(([, owner]) => owner === "b2");
    expect(moved(two, back).sort()).toEqual(ofB2.map(([partition]) => partition).sort());
    expect(ofB2.length).toBeLessThanOrEqual(6);
  });

  test("nothing moves when nothing has changed, or when only a claim returned", () => {
    const first = assignSticky(
      ["a", "b", "c"].map((id) => member(id)),
      TOPICS,
    );
    expect(moved(first, assignSticky(again(first, 1).reverse(), TOPICS))).toEqual([]);
  });

  test("if two claim a partition, it stays with the one that was assigned it later", () => {
    const topics = new Map([["transactions", [0, 1]]]);
    const assignment = assignSticky(
      [
        member("stale", { at: 1, partitions: { transactions: [0, 1] } }),
        member("now", { at: 2, partitions: { transactions: [0] } }),
      ],
      topics,
    );
    expect(ownersOf(assignment)).toEqual(
      new Map([
        ["transactions[1]", "stale"],
        ["transactions[0]", "now"],
      ]),
    );
  });

  test(
    "a member gets nothing of a topic that it doesn't know, and claims of partitions that are gone " + "are no matter",
    () => {
      const assignment = assignSticky(
        [member("old", { at: 1, partitions: { labels: [99], gone: [0] } }, ["labels"]), member("new")],
        TOPICS,
      );
      expect([...(assignment.get("old") ?? [])].map(([topic, { length }]) => [topic, length])).toEqual([["labels", 4]]);
      expect(ownersOf(assignment).size).toBe(17);
    },
  );

  test("in any case: every partition once, evenly, and no more moved than necessary", () => {
    const random = new RandomSource(3);
    let members = ["m0", "m1"].map((id) => member(id));
    let before = assignSticky(members, TOPICS);
    for (let at = 1; at < 300; at++) {
      members = again(before, at);
      const joins = members.length < 2 || random.int(2) === 0;
      if (joins) members.push(member(`m${at + 1}`));
      else members.splice(random.int(members.length), 1);
      const after = assignSticky(members, TOPICS);
      expect(ownersOf(after).size).toBe(17);
      for (const topic of ["transactions", "labels"])
        expect(Math.max(...counts(after, topic)) - Math.min(...counts(after, topic))).toBeLessThanOrEqual(1);
      const left = [...ownersOf(before)].filter(([, owner]) => !after.has(owner)).length;
      const newcomer = joins ? [...(after.get(`m${at + 1}`)?.values() ?? [])].flat().length : 0;
      expect(moved(before, after).length).toBe(joins ? newcomer : left);
      before = after;
    }
  });
});
