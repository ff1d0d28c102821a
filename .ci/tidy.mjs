// Checks what neither Prettier nor ESLint does: the width of every text file, docstrings that follow one another, and
// unit tests whose path mirrors no source file. Prints each place that fails, and ends with code 1 if there is one.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";

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

const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard", "-z"], { encoding: "utf8" })
  .split("\0")
  .filter((file) => file !== "" && existsSync(file));
const complaints = [];
const needed = new Set();

for (const file of files) {
  const text = readFileSync(file, "utf8");
  if (text.includes("\0")) continue; // Not a text.
  text.split("\n").forEach((line, index) => checkWidth(file, line, index + 1));
  if (/\.(?:ts|js|mjs|cjs)$/.test(file)) checkDocstrings(file, text);
  if (/^tests\/unit\/.*\.test\.ts$/.test(file)) checkMirror(file);
}
for (const exception of LONG_LINES)
  if (!needed.has(exception))
    complaints.push(`.ci/tidy.mjs: no long line needs the exception ${exception.file} any more`);
for (const file of OTHER_TESTS.keys())
  if (!files.includes(file)) complaints.push(`.ci/tidy.mjs: ${file} does not exist any more`);

if (complaints.length > 0) {
  console.error(complaints.join("\n"));
  console.error(`${complaints.length} places to tidy: see "What npm run check refuses" in CONTRIBUTING.md`);
  process.exitCode = 1;
}

function checkWidth(file, line, number) {
  if (line.length <= WIDTH) return;
  // What people see as one character may be several code units.
  const columns = [...line].length;
  if (columns <= WIDTH) return;
  const exception = LONG_LINES.find((one) => one.file.test(file) && (one.line?.test(line) ?? true));
  if (exception === undefined) complaints.push(`${file}:${number}: ${columns} columns, more than ${WIDTH}`);
  else needed.add(exception);
}

function checkDocstrings(file, text) {
  for (const { index } of text.matchAll(/\*\/\n\s*\/\*\*/g)) {
    const line = text.slice(0, index).split("\n").length;
    complaints.push(`${file}:${line}: a docstring that documents nothing: another one follows it`);
  }
}

/** tests/unit/models/artifacts.test.ts tests models/artifacts.ts, and artifacts.disk.test.ts one aspect of it. */
function checkMirror(file) {
  if (OTHER_TESTS.has(file)) return;
  const [, source] = /^tests\/unit\/(.*?)(?:\.[\w-]+)?\.test\.ts$/.exec(file);
  if (existsSync(`${source}.ts`)) return;
  complaints.push(`${file}: a unit test's path mirrors its source file, and there is no ${source}.ts`);
}
