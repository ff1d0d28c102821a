import { expect, test } from "vitest";
import { EntityTable } from "../../../../models/features/entity-table.js";
import { seededRandom } from "../../../../models/training/random.js";

test("finds what a Map finds, through removals, growth and snapshots, and gives removed indexes again", () => {
  const random = seededRandom(5);
  let table = new EntityTable();
  const known = new Map<string, number>();
  for (let i = 0; i < 60_000; i++) {
    const id = `${"x".repeat(Math.floor(random() * 20))}${Math.floor(random() * 3000)}`;
    const bytes = Buffer.from(`_${id}_`);
    const found = table.find(bytes, 1, bytes.length - 2);
    expect(found).toBe(known.get(id) ?? -1);
    if (found >= 0 && random() < 0.6) {
      table.remove(found);
      known.delete(id);
    } else known.set(id, table.intern(bytes, 1, bytes.length - 2));
    if (i % 20_000 === 19_999)
      table = EntityTable.restore("ids", new Map(table.sections("ids").map(({ name, data }) => [name, data])));
  }
  expect(table.size).toBe(known.size);
  expect(new Set(known.values()).size).toBe(known.size);
  expect(Math.max(...known.values())).toBeLessThan(table.extent);
  for (const [id, index] of known) expect(table.id(index).toString()).toBe(id);
});

test("ids of any length, longer than a page of memory too", () => {
  const table = new EntityTable();
  const ids = [0, 1, 8, 9, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 4_000_000].map((length) => Buffer.alloc(length, "a"));
  const indexes = ids.map((id) => table.intern(id, 0, id.length));
  expect(ids.map((id) => table.find(id, 0, id.length))).toEqual(indexes);
  table.remove(indexes[7]);
  expect(table.find(ids[7], 0, ids[7].length)).toBe(-1);
  expect(table.intern(ids[7], 0, ids[7].length)).toBe(indexes[7]);
  expect(ids.every((id, i) => table.id(indexes[i]).equals(id))).toBe(true);
});
