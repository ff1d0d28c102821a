import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { SETTINGS } from "../../infra/config/unknown-settings.js";
import { packageRoot } from "../../infra/package-root.js";
import { WATCHABLE_RATE } from "../../pipelines/local/start/options.js";
import { HISTORY_DAYS, TRAINING_DAYS } from "../../pipelines/local/start/simulated-rows.js";
import { unwrapped } from "../support/markdown.js";

const root = packageRoot();
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const FOLDERS = ["schemas", "infra", "models", "pipelines", "api", "tests", ".github"];
const files = [
  ...readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name),
  ...FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name)),
  ),
].filter((path) => !path.includes("node_modules"));
const documents = files.filter((path) => path.endsWith(".md"));

/** Files that recipes make. */
const EXAMPLES = [
  "tests/unit/schemas/messagepack.test.ts",
  "schemas/messagepack.ts",
  "api/routes/topics.ts",
  "tests/unit/pipelines/scoring/meter.test.ts",
];

/** The text without code, in which brackets mean something else. */
const prose = (text: string): string => text.replace(/^```[\s\S]*?^```$/gm, "").replace(/`[^`\n]*`/g, "``");

/**
 * The names by which parts of a document can be linked to, as GitHub makes them from headings, and those written as `<a
 * id>`.
 */
function anchorsOf(path: string): string[] {
  const text = read(path);
  const headings = [...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\- ]/gu, "")
      .replace(/ /g, "-"),
  );
  return [...headings, ...[...text.matchAll(/<a id="([^"]+)">/g)].map(([, id]) => id)];
}

test("each link in a document leads to an existing file and heading", () => {
  expect(documents.length).toBeGreaterThan(20);
  const broken: string[] = [];
  for (const path of documents) {
    for (const [, target] of prose(read(path)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file, anchor] = target.split("#");
      const linked = file === "" ? path : join(dirname(path), file);
      if (!existsSync(join(root, linked))) broken.push(`${path}: ${target}`);
      else if (anchor !== undefined && linked.endsWith(".md") && !anchorsOf(linked).includes(anchor))
        broken.push(`${path}: ${target}`);
    }
  }
  expect(broken).toEqual([]);
});

test("each file that a document or a comment names by its path exists", () => {
  const missing: string[] = [];
  for (const path of files) {
    const named = path.endsWith(".md")
      ? [
          ...read(path)
            .replace(/^```[\s\S]*?^```$/gm, "")
            .matchAll(/`((?:schemas|infra|models|pipelines|api|tests)\/[\w./-]+\.(?:ts|sql|md|py))`/g),
        ]
      : /\.(ts|sql|ya?ml)$/.test(path)
        ? [...read(path).matchAll(/(?<![\w./-])((?:schemas|infra|models|pipelines|api|tests)\/[\w./-]+\.md)\b/g)]
        : [];
    for (const [, target] of named)
      if (
        !existsSync(join(root, target)) &&
        !existsSync(join(root, dirname(path), target)) &&
        !EXAMPLES.includes(target)
      )
        missing.push(`${path}: ${target}`);
  }
  expect(missing).toEqual([]);
});

test("the settings page lists every setting and nothing else", () => {
  const rows = unwrapped(read("infra/README.md"))
    .split("\n")
    .filter((line) => line.startsWith("- `"));
  const listed = rows.flatMap((row) => [...row.split(":")[0].matchAll(/`([A-Z][A-Z_]+)`/g)].map(([, name]) => name));
  expect(listed.sort()).toEqual([...SETTINGS].sort());
});

test("each npm script that a document names exists", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
  const unknown = documents.flatMap((path) =>
    [...read(path).matchAll(/npm run (?:--silent )?([a-z][\w:-]*)/g)]
      .filter(([, name]) => !(name in scripts))
      .map(([, name]) => `${path}: npm run ${name}`),
  );
  expect(unknown).toEqual([]);
});

test("the demo figures in README are those in the code", () => {
  const weeks = (days: number): string =>
    ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"][days / 7];
  const readme = read("README.md").replace(/\s+/g, " ");
  expect(readme).toContain(
    `simulates ${weeks(HISTORY_DAYS)} weeks of them up to now, trains a model on the first ${weeks(TRAINING_DAYS)},`,
  );
  expect(readme).toContain(`payments happen now, ${WATCHABLE_RATE} a second,`);
  // What the model has seen in training would flatter it.
  expect(readme).toContain(`models/metrics?window=P${HISTORY_DAYS - TRAINING_DAYS}D&`);
  expect(read("pipelines/local/README.md")).toContain(`transactions a second; default ${WATCHABLE_RATE},`);
});

test("a guarantee is cited by a link to it, in documents and in code", () => {
  const loose: string[] = [];
  for (const path of files) {
    if (!/\.(md|ts|mjs|sql|ya?ml)$/.test(path) || path === "ARCHITECTURE.md" || path === "tests/unit/documents.test.ts")
      continue;
    const text = read(path);
    for (const [name] of text
      .replace(/\[[^\]]*\]\([^)]*ARCHITECTURE\.md#guarantee-[1-7]\)/g, "")
      .matchAll(/guarantee \d/gi))
      loose.push(`${path}: ${name}`);
    for (const [name, number] of text.matchAll(/ARCHITECTURE\.md#guarantee-(\d+)/g))
      if (Number(number) < 1 || Number(number) > 7) loose.push(`${path}: ${name}`);
  }
  expect(loose).toEqual([]);
});

test("the index of decisions has each record's title, status and date, and each record follows the template", () => {
  const folder = "infra/decisions";
  const index = unwrapped(read(`${folder}/README.md`));
  const records = readdirSync(join(root, folder))
    .filter((name) => name !== "README.md")
    .sort();
  records.forEach((name, i) => {
    const text = read(`${folder}/${name}`);
    const [, number, title, status, date] =
      /^# (\d{4}): (.+)\n\nStatus: (proposed|accepted|rejected|superseded by \d{4}) · (\d{4}-\d\d-\d\d)/.exec(text) ??
      [];
    expect(name, `${name}: a heading "# NNNN: Title", a blank line, then "Status: accepted · YYYY-MM-DD"`).toBe(
      name.replace(/^\d{4}/, number),
    );
    expect(Number(number), name).toBe(i + 1);
    expect(index).toContain(`\n- [${number}](${name}) ${title} (${status}, ${date})\n`);
    expect(
      [...text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading),
      name,
    ).toEqual(["Context", "Decision", "Consequences", "Measured"]);
  });
  expect(index.match(/^- \[\d{4}\]/gm)).toHaveLength(records.length);
});
