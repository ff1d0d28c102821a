import { Value } from "@sinclair/typebox/value";
import { Command } from "commander";
import { expect, test } from "vitest";
import { ReadingRequest, toReadingOptions } from "../../../../models/datasets/reading-request.js";
import { addReadingFlags, readingRequestOf, type ReadingFlags } from "../../../../pipelines/runtime/reading-flags.js";

function read(...args: string[]): ReadingRequest {
  const command = addReadingFlags(new Command())
    .exitOverride()
    .parse(["node", "x", ...args]);
  const request = readingRequestOf(command.opts<ReadingFlags>());
  expect(Value.Check(ReadingRequest, request)).toBe(true);
  return request;
}

test("options of a command map to fields of a training request, and to what the reader takes", () => {
  expect(read()).toEqual({});
  const request = read(
    ..."--columns card_id=first+last,currency= --time-format %d/%m/%Y --day-first --keep a,b --keep b --drop c".split(
      " ",
    ),
    ..."--labels fraud=cb,genuine=ok --labels fraud=stolen --decimal comma --delimiter tab --encoding latin1".split(
      " ",
    ),
  );
  expect(request).toEqual({
    columns: { card_id: "first+last", currency: null },
    time_format: "%d/%m/%Y",
    day_first: true,
    keep: ["a", "b"],
    drop: ["c"],
    labels: { fraud: ["cb", "stolen"], genuine: ["ok"] },
    decimal: "comma",
    delimiter: "tab",
    encoding: "latin1",
  });
  expect(toReadingOptions(request)).toMatchObject({
    timeFormat: "%d/%m/%Y",
    dayFirst: true,
    decimal: ",",
    keep: ["a", "b"],
  });
  expect(read("--no-day-first")).toEqual({ day_first: false });
});

test("unknown options are refused", () => {
  expect(() => read("--labels", "maybe=x")).toThrow(/fraud=WORD/);
  expect(() => read("--columns", "colour=red")).toThrow(/role=column/);
});
