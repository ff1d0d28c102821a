import { expect, test } from "vitest";
import { PartitionProgress } from "../../../../pipelines/sink/offset-commits.js";
import { DEFAULT_LIMITS, TableBlocks } from "../../../../pipelines/sink/table-blocks.js";
import { fetchedRecords } from "../../../support/fetched-records.js";

/** The deduplication token of a block of one record behind a range that was aborted. */
async function tokenOf(timestamp: number): Promise<string> {
  const tokens: string[] = [];
  const blocks = new TableBlocks({
    table: "labels",
    clickhouse: {
      command: () => Promise.resolve(),
      insertRows: ({ token }) => Promise.resolve(void tokens.push(token)),
    },
    backoff: { firstMs: 1, mostMs: 1, signal: new AbortController().signal },
    limits: DEFAULT_LIMITS,
    onStored: () => {},
    onFailure: (error) => {
      throw error;
    },
  });
  const progress = new PartitionProgress({ topic: "labels", partition: 0, start: 0 }, () => {});
  const records = fetchedRecords({ topic: "labels" }, [{ offset: 7, timestamp, value: Buffer.from("x") }]);
  blocks.addEnd(progress, 7);
  blocks.add(progress, records, 0, 1);
  await blocks.flush();
  return tokens.join();
}

test(
  "a block of a topic that was made anew has a token of its own, though its offsets are the same and it began " +
    "with an end alone",
  async () => {
    const former = await tokenOf(1_000);
    expect(former).toMatch(/^[0-9a-f]{64}$/);
    // ClickHouse stores a block of a known token once: the new topic's would be lost without a word.
    expect(await tokenOf(2_000)).not.toBe(former);
    expect(await tokenOf(1_000)).toBe(former);
  },
);
