// Checks what neither Prettier nor ESLint does: the width of every text file, docstrings that follow one another, and
// unit tests whose path mirrors no source file. Prints each place that fails, and ends with code 1 if there is one.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const WIDTH = 120;

/** Lines that may be longer. An exception that no line needs any more fails the check, too. */
const LONG_LINES = [
  { file: /^tests\/fixtures\//, reason: "files as other programs wrote them" },
  { file: /^tests\/\w+\/results\.jsonl$/, reason: "logs of results, one JSON text a line" },
  {
    file: /^schemas\/(?:avro\/[\w-]+\.avsc|generated\.ts)$/,
    line: /^\s*"doc": "/,
    reason: "JSON has no line breaks in strings, and another text would register a new version of the schema",
  },
];

/** Unit tests of something that is no source file. */
const OTHER_TESTS = new Map([["tests/unit/documents.test.ts", "tests the documents of the whole repository"]]);

/** The exceptions that a line has needed so far. */
const needed = new Set();

/** What a file fails in, one line for each place. */
export function tidyComplaints(file, text) {
  if (text.includes("\0")) return []; // Not a text.
  const complaints = text.split("\n").flatMap((line, index) => widthComplaints(file, line, index + 1));
  if (/\.(?:ts|js|mjs|cjs)$/.test(file)) complaints.push(...docstringComplaints(file, text));
  if (/^tests\/unit\/.*\.test\.ts$/.test(file)) complaints.push(...mirrorComplaints(file));
  return complaints;
}

function widthComplaints(file, line, number) {
  if (line.length <= WIDTH) return [];
  // What people see as one character may be several code units.
  const columns = [...line].length;
  if (columns <= WIDTH) return [];
  const exception = LONG_LINES.find((one) => one.file.test(file) && (one.line?.test(line) ?? true));
  if (exception === undefined) return [`${file}:${number}: ${columns} columns, more than ${WIDTH}`];
  needed.add(exception);
  return [];
}

function docstringComplaints(file, text) {
  return [...text.matchAll(/\*\/\n\s*\/\*\*/g)].map(({ index }) => {
    const line = text.slice(0, index).split("\n").length;
    return `${file}:${line}: a docstring that documents nothing: another one follows it`;
  });
}

/** tests/unit/models/artifacts.test.ts tests models/artifacts.ts, and artifacts.disk.test.ts one aspect of it. */
function mirrorComplaints(file) {
  const [, source] = /^tests\/unit\/(.*?)(?:\.[\w-]+)?\.test\.ts$/.exec(file);
  if (OTHER_TESTS.has(file) || existsSync(`${source}.ts`)) return [];
  return [`${file}: a unit test's path mirrors its source file, and there is no ${source}.ts`];
}

function checkAll() {
  const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard", "-z"], { encoding: "utf8" })
    .split("\0")
    .filter((file) => file !== "" && existsSync(file));
  const complaints = files.flatMap((file) => tidyComplaints(file, readFileSync(file, "utf8")));
  for (const { file } of LONG_LINES.filter((exception) => !needed.has(exception)))
    complaints.push(`.ci/tidy.mjs: no long line needs the exception ${file} any more`);
  for (const file of OTHER_TESTS.keys())
    if (!existsSync(file)) complaints.push(`.ci/tidy.mjs: ${file} does not exist any more`);
  if (complaints.length === 0) return;
  console.error(complaints.join("\n"));
  console.error(`${complaints.length} places to tidy`);
  process.exitCode = 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) checkAll();
