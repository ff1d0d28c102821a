import { expect, it } from "vitest";
import { CardHistory } from "../../../models/features/card-history.js";
import { PartitionHistory } from "../../../pipelines/scoring/history/partition-histories.js";

it("takes dead letters for those of its own transactions only when a batch was committed behind them", () => {
  const history = new PartitionHistory(0, new CardHistory(), 5, 2);
  history.deadLettersEnded(9);
  expect(history.deadLettersFrom).toBe(2);
  // The partition may be another worker's by now.
  history.begin();
  history.undo();
  expect([history.offset, history.deadLettersFrom]).toEqual([5, 2]);
  history.begin();
  history.committed(8);
  expect([history.offset, history.deadLettersFrom]).toEqual([8, 9]);
  history.deadLettersEnded(7);
  history.committed(9);
  expect(history.deadLettersFrom).toBe(9);
});
