// Runs the tests on another version of Node: `npm run test:node -- 24 [vitest's arguments]`. That Node comes from the
// npm package `node` and is kept in the cache. Every process that the tests start runs on it, too.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [version, ...rest] = process.argv.slice(2);
if (version === undefined || !/^\d+(\.\d+){0,2}$/.test(version)) {
  console.error("usage: npm run test:node -- VERSION [arguments of vitest], for example: npm run test:node -- 24");
  process.exit(2);
}
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "fraudstream", `node-${version}`);
const node = join(folder, "node_modules", "node", "bin", process.platform === "win32" ? "node.exe" : "node");

if (!existsSync(node)) {
  console.log(`fetching Node ${version} from the npm package node`);
  mkdirSync(folder, { recursive: true });
  const { status } = spawnSync(
    "npm",
    ["install", "--no-save", "--loglevel=error", "--prefix", folder, `node@${version}`],
    { stdio: "inherit" },
  );
  if (status !== 0 || !existsSync(node)) {
    console.error(`Node ${version} could not be fetched: is there such a version of the npm package node?`);
    process.exit(1);
  }
}
const env = { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ""}` };
spawnSync(node, ["--version"], { stdio: "inherit" });
const { status, signal } = spawnSync(node, [join(root, "node_modules/vitest/vitest.mjs"), "run", ...rest], {
  cwd: root,
  env,
  stdio: "inherit",
});
process.exitCode = signal === null ? (status ?? 1) : 130;
