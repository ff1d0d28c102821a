import { mkdtemp, readFile, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import type { Logger } from "../../../infra/logging.js";
import { SnapshotStore, type Section, type Snapshot, type SnapshotOf } from "../../../infra/snapshots.js";

const OF: SnapshotOf = {
  kind: "scoring",
  cluster: "c",
  topic: "fraud.transactions",
  topicId: "t",
  partition: 1,
  terms: "v1",
};
const sections = (value: number): Section[] => [
  { name: "numbers", data: Float64Array.from([value, Number.NaN, -0]) },
  { name: "bytes", data: Buffer.from([1, 2, 3]) },
  { name: "none", data: new Int32Array(0) },
  // Larger than what is read at once, and no multiple of it.
  { name: "many", data: new Uint32Array(2_500_001).map((_, i) => i * value) },
];

const asItIs = (snapshot: Snapshot): Snapshot => snapshot;

function bytesOf(data: ArrayBufferView): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

async function openStore(): Promise<{ dir: string; store: SnapshotStore; warnings: string[] }> {
  const dir = join(await mkdtemp(join(tmpdir(), "fraudstream-snapshots-")), "state");
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const warnings: string[] = [];
  const log = { warn: (_: unknown, text: string) => warnings.push(text) } as unknown as Logger;
  return { dir, store: new SnapshotStore(dir, log), warnings };
}

it("returns what was saved, the newest that isn't ahead, and keeps two", async () => {
  const { dir, store, warnings } = await openStore();
  expect(await store.load(OF, 100, asItIs)).toBeNull();
  for (const offset of [5, 10, 20]) {
    await store.save(OF, offset, sections(offset));
    // Files of one millisecond have no order.
    await utimes(join(dir, `scoring-fraud.transactions-1-${offset}.snapshot`), offset, offset);
  }
  await store.save({ ...OF, partition: 12 }, 7, sections(7));
  expect((await readdir(dir)).sort()).toEqual([
    "scoring-fraud.transactions-1-10.snapshot",
    "scoring-fraud.transactions-1-20.snapshot",
    "scoring-fraud.transactions-12-7.snapshot",
  ]);
  const found = await store.load(OF, 20, asItIs);
  expect(found?.offset).toBe(20);
  expect(found?.sections.map(({ name, data }) => [name, data.constructor.name])).toEqual([
    ["numbers", "Float64Array"],
    ["bytes", "Uint8Array"],
    ["none", "Int32Array"],
    ["many", "Uint32Array"],
  ]);
  expect(found?.sections.map(({ data }, i) => bytesOf(data).equals(bytesOf(sections(20)[i].data)))).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(warnings).toEqual([]);
  expect((await store.load(OF, 19, asItIs))?.offset).toBe(10);
  expect(warnings).toEqual([expect.stringContaining("it stands at 20, the partition at 19")]);
});

it("skips what is corrupt, cut off, of another layout or of something else", async () => {
  const { dir, store, warnings } = await openStore();
  await store.save(OF, 1, sections(1));
  await store.save(OF, 2, sections(2));
  const file = join(dir, "scoring-fraud.transactions-1-2.snapshot");
  const whole = await readFile(file);
  const changed = (change: (bytes: Buffer) => Buffer | void): Buffer => {
    const bytes = Buffer.from(whole);
    return change(bytes) ?? bytes;
  };
  const flip = (at: number) => (bytes: Buffer) => void (bytes[at] ^= 1);
  const cases: [Buffer, string][] = [
    [changed(flip(0)), "no snapshot"],
    [changed(flip(6)), "format is 0, not 1"],
    [changed(flip(30)), "head is corrupt"],
    [changed(flip(whole.length - 1_000)), "checksum"],
    [changed(flip(whole.length - 1)), "checksum"],
    [changed((bytes) => bytes.subarray(0, 9_000_000)), "bytes, not"],
    [changed((bytes) => bytes.subarray(0, 5)), "cut off"],
    [Buffer.alloc(0), "cut off"],
  ];
  for (const [bytes, reason] of cases) {
    await writeFile(file, bytes);
    expect((await store.load(OF, 9, asItIs))?.offset, reason).toBe(1);
    expect(warnings.pop()).toContain(reason);
  }
  await writeFile(file, whole);
  const picky = ({ offset }: Snapshot): number => {
    if (offset === 2) throw new Error("a section is missing");
    return offset;
  };
  expect([await store.load(OF, 9, picky), warnings.pop()]).toEqual([
    1,
    expect.stringContaining("a section is missing"),
  ]);
  for (const field of ["cluster", "topicId", "terms"] as const) {
    expect(await store.load({ ...OF, [field]: "other" }, 9, asItIs)).toBeNull();
    expect(warnings.splice(0)).toEqual([
      expect.stringContaining(`its ${field} is`),
      expect.stringContaining(`its ${field} is`),
    ]);
  }
});
