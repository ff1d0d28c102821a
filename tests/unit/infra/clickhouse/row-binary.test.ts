import { describe, expect, it } from "vitest";
import { RowBinaryWriter } from "../../../../infra/clickhouse/row-binary.js";
import { RowBinaryReader } from "./row-binary-reader.js";

describe("RowBinaryWriter", () => {
  it("writes whole numbers of up to 53 bits, both signs", () => {
    const values = [
      0,
      1,
      -1,
      2 ** 31,
      -(2 ** 31),
      2 ** 32 - 1,
      2 ** 32,
      -(2 ** 32),
      -(2 ** 32) - 1,
      Number.MAX_SAFE_INTEGER,
      Number.MIN_SAFE_INTEGER,
    ];
    const out = new RowBinaryWriter(8);
    for (const value of values) out.int64(value);
    const reader = new RowBinaryReader(out.written());
    expect(values.map(() => reader.int64())).toEqual(values.map(BigInt));
    expect(reader.done).toBe(true);
  });

  it("writes texts of every length and script, growing as it goes", () => {
    const texts = [
      "",
      "a",
      "x".repeat(47),
      "x".repeat(48),
      "x".repeat(49),
      "x".repeat(127),
      "x".repeat(128),
      "y".repeat(20_000),
      "Zürich",
      "漢字と🙂",
      `${"a".repeat(40)}é`,
      "nul\0byte",
    ];
    const out = new RowBinaryWriter(1);
    for (const text of texts) out.text(text);
    const reader = new RowBinaryReader(out.written());
    expect(texts.map(() => reader.text())).toEqual(texts);
    expect(reader.done).toBe(true);
  });

  it("removes an unfinished row, and keeps nothing after it is cleared", () => {
    const out = new RowBinaryWriter(4);
    out.text("kept");
    const { length } = out;
    out.text("z".repeat(1_000));
    out.length = length;
    out.float64(-0.5);
    const reader = new RowBinaryReader(out.written());
    expect([reader.text(), reader.float64(), reader.done]).toEqual(["kept", -0.5, true]);
    out.clear(100);
    expect([out.written().length, out.bytes.length]).toEqual([0, 4]);
  });

  it("copies raw bytes of any length", () => {
    const source = Buffer.from(Array.from({ length: 300 }, (_, i) => i % 256));
    const out = new RowBinaryWriter(1);
    for (const size of [0, 1, 48, 49, 290]) out.blob(source, 5, size);
    const reader = new RowBinaryReader(out.written());
    for (const size of [0, 1, 48, 49, 290])
      expect(reader.list(() => reader.byte())).toEqual([...source.subarray(5, 5 + size)]);
  });
});
