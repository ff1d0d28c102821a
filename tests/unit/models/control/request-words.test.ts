import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { inRequestWords } from "../../../../models/control/request-words.js";

test("a job's reason names fields of the request where a command's would name options", () => {
  expect(inRequestWords("no column tells the label: name it with --columns label=NAME")).toBe(
    'no column tells the label: name it with "columns": {"label": "NAME"} in the request',
  );
  expect(
    inRequestWords("two columns may be event_time or amount: --columns event_time=NAME or --columns amount=NAME"),
  ).toBe(
    'two columns may be event_time or amount: "columns": {"event_time": "NAME"} in the request or "columns": ' +
      '{"amount": "NAME"} in the request',
  );
  expect(inRequestWords("set --review-capacity, --decline-precision or --currency")).toBe(
    'set "review_capacity" in the request, "decline_precision" in the request or "currency" in the request',
  );
  // Dashes of other kinds, and what a file itself holds, stay as they are.
  for (const other of ["line 3 has 2 columns -- not 5", "a column named pre--order", "2018-07-25", "-5 is no amount"])
    expect(inRequestWords(other)).toBe(other);
});

test("the file reader's reasons are translated into those of a request", async () => {
  const folder = mkdtempSync(join(tmpdir(), "fraudstream-words-"));
  try {
    writeFileSync(join(folder, "x.csv"), "when,amount,shop\n2026-01-01T00:00:00Z,5,a\n");
    const error = await readCsv(join(folder, "x.csv"), {}).catch((each: unknown) => each as Error);
    expect((error as Error).message).toMatch(/--columns/);
    expect(inRequestWords((error as Error).message)).not.toMatch(/(^|\s)--\w/);
    expect(inRequestWords((error as Error).message)).toContain(" in the request");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
