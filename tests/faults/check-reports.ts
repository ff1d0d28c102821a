import type { Complaints } from "./complaints.js";
import type { FormerTopic } from "./former-topics.js";
import type { System } from "./system.js";

/** What roles must have told their operators of the topics. To be called when they have stopped. */
export function checkReports(system: System, formers: readonly FormerTopic[], complaints: Complaints): void {
  const { topics } = system.test;
  for (const topic of ["transactions", "labels"] as const) {
    const spec = topics[topic];
    if (system.current(spec).partitions > spec.partitions) {
      for (const slot of [...system.of("scoring"), ...system.of("sink"), ...system.of("merchants")]) {
        if (slot.said("partitions_added", `${spec.name} has `) === 0)
          complaints.add("partitions added", `${slot.name} has not said so of ${spec.name}`);
      }
    }
    // Whoever starts or takes a partition over when the new topic is there knows of no other: Kafka has deleted the
    // group's offsets, too. Labels have few readers, which are stopped for what is deleted unread.
    const recreated = formers.some((former) => former.topic === topic && (topic === "transactions" || former.drained));
    if (recreated && system.slots.every((slot) => slot.said("log_recreated", spec.name) === 0))
      complaints.add("topics recreated", `nobody has said so of ${spec.name}`);
  }
}
