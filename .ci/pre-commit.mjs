// Checks the staged files, as they are staged, with Prettier, with ESLint but for the rules that need types (those take
// longer; `npm run check` has them), and with tidy.mjs. .githooks/pre-commit calls it.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { tidyComplaints } from "./tidy.mjs";

const git = (...args) => execFileSync("git", args, { encoding: "utf8", maxBuffer: 256 * 1024 * 1024 });

/** The staged files that were added or changed. */
function stagedFiles() {
  return git("diff", "--cached", "--name-only", "--diff-filter=ACMR", "-z")
    .split("\0")
    .filter((file) => file !== "");
}

/** Those of the files that Prettier would write otherwise. */
async function unformatted(prettier, texts) {
  const files = [];
  for (const [file, text] of texts) {
    const { ignored, inferredParser } = await prettier.getFileInfo(file, { ignorePath: ".prettierignore" });
    if (ignored || inferredParser === null) continue;
    const options = await prettier.resolveConfig(file);
    const formatted = await prettier.check(text, { ...options, filepath: file }).catch(() => false);
    if (!formatted) files.push(file);
  }
  return files;
}

/** ESLint's report on the files; empty: it has nothing to say. */
async function lintReport({ ESLint }, { configs }, texts) {
  const eslint = new ESLint({
    overrideConfig: [
      configs.disableTypeChecked,
      {
        languageOptions: { parserOptions: { projectService: false, project: false } },
        // A comment that disables a rule that needs types disables nothing here.
        linterOptions: { reportUnusedDisableDirectives: "off" },
      },
    ],
  });
  const results = [];
  for (const [file, text] of texts.filter(([name]) => /\.[cm]?[jt]s$/.test(name)))
    results.push(...(await eslint.lintText(text, { filePath: file, warnIgnored: false })));
  return (await eslint.loadFormatter("stylish")).format(results);
}

async function check() {
  // The files of a merge are mostly those of the other side.
  if (spawnSync("git", ["rev-parse", "-q", "--verify", "MERGE_HEAD"]).status === 0) return;
  const texts = stagedFiles().map((file) => [file, git("show", `:${file}`)]);
  if (texts.length === 0) return;
  if (!existsSync("node_modules/prettier")) {
    console.error("pre-commit: nothing was checked, since packages are missing: npm ci");
    return;
  }
  const [prettier, eslint, tseslint] = await Promise.all(
    ["prettier", "eslint", "typescript-eslint"].map((name) => import(name)),
  );
  const unformattedFiles = await unformatted(prettier, texts);
  const report = (await lintReport(eslint, tseslint, texts)).trim();
  const complaints = texts.flatMap(([file, text]) => tidyComplaints(file, text));
  if (unformattedFiles.length + report.length + complaints.length === 0) return;

  if (unformattedFiles.length > 0)
    console.error(`Not formatted:\n${unformattedFiles.map((file) => `  ${file}`).join("\n")}`);
  if (report !== "") console.error(report);
  if (complaints.length > 0) console.error(complaints.join("\n"));
  console.error(
    "\npre-commit: the commit is refused. What is checked is what is staged: mend it, and git add it again.",
  );
  if (unformattedFiles.length > 0)
    console.error(`To format: npx prettier --write ${unformattedFiles.map((file) => `'${file}'`).join(" ")}`);
  process.exitCode = 1;
}

await check();
