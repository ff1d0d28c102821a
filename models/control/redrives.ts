import type { PartitionOutput } from "../../infra/kafka/partition-output.js";
import { deadLetterReplayed } from "./events.js";
import type { ControlLog } from "./log.js";
import type { LetterCoordinates } from "./state.js";

/**
 * Appends the event that a dead letter was sent again to an output of the transaction that sends it
 * (`ControlLog.output`): either both are published, or neither (ARCHITECTURE.md#guarantee-6).
 *
 * @param at when, epoch milliseconds
 */
export function appendReplayed(
  control: ControlLog,
  output: PartitionOutput,
  { who, at }: { who: string; at: number },
  letter: LetterCoordinates,
): void {
  control.appendTo(output, { ...deadLetterReplayed(letter), who, base: -1, at });
}
