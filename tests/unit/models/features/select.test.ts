import { expect, test } from "vitest";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { featureMatrix } from "../../../../models/features/feature-matrix.js";
import { selectFeatures } from "../../../../models/features/select.js";
import { fileWith } from "../datasets/csv-files.js";

// A Saturday at 03:30, a Monday at 14:00, UTC.
const FILE =
  "event_time,amount,label,hour,kind,ok,x\n2020-02-01 03:30:00,10.5,0,7,a,true,1.5\n2020-02-03 " +
  "14:00:00,-2,1,8,b,,\n2020-02-03 15:00:00,0,1,9,,false,0\n";

test("amount, time and each attribute are features; a text is one feature a value", async () => {
  const dataset = await readCsv(fileWith(FILE));
  const specs = selectFeatures(dataset);
  expect(specs.map(({ name, type, default: missing }) => [name, type, missing])).toEqual([
    ["amount", "number", null],
    ["hour", "number", null],
    ["weekend", "boolean", null],
    ["night", "boolean", null],
    ["attributes.hour", "number", null],
    ["kind=a", "boolean", 0],
    ["kind=b", "boolean", 0],
    ["ok", "boolean", null],
    ["x", "number", null],
  ]);
  const matrix = featureMatrix(dataset, specs, Uint32Array.of(2, 0, 1));
  expect([matrix.rows, matrix.features]).toEqual([3, 9]);
  expect([...matrix.values]).toEqual(
    [
      [0, 15, 0, 0, 9, 0, 0, 0, 0],
      [10.5, 3, 1, 1, 7, 1, 0, 1, 1.5],
      [-2, 14, 0, 0, 8, 0, 1, Number.NaN, Number.NaN],
    ].flat(),
  );
});

test("rows beyond one block, and an attribute that the data set lacks", async () => {
  const rows = Array.from({ length: 10_000 }, (_, row) => `${row},${row % 2},${row * 2}`);
  const dataset = await readCsv(fileWith(`amount,label,x\n${rows.join("\n")}\n`), { keep: ["x"] });
  const specs = [
    ...selectFeatures(dataset),
    { name: "y", type: "number", source: { kind: "attribute", attribute: "y" }, default: -1 } as const,
  ];
  const matrix = featureMatrix(
    dataset,
    specs,
    Uint32Array.from({ length: 10_000 }, (_, row) => 9_999 - row),
  );
  const row = (index: number): number[] => [...matrix.values.subarray(index * 6, index * 6 + 6)];
  expect(row(0)[0]).toBe(9_999);
  for (const index of [0, 4_095, 4_096, 9_999])
    expect([row(index)[0], row(index)[4], row(index)[5]]).toEqual([9_999 - index, 2 * (9_999 - index), -1]);
});
