// Makes a clone use the hooks in .githooks. `npm ci` and `npm install` run it (`prepare` in package.json). It does
// nothing in CI, in an image build, or without git, and never fails: an installation must not depend on hooks.
import { execFileSync } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const HOOKS = ".githooks";
const root = realpathSync(fileURLToPath(new URL("..", import.meta.url)));
// Set where npm runs inside another git command, and would name that command's repository.
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_")));

const git = (...args) =>
  execFileSync("git", args, { cwd: root, env, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();

/** The value of a setting in any of git's files; empty: it is not set. */
function setting(name) {
  try {
    return git("config", "--get", name);
  } catch {
    return "";
  }
}

function setHooks() {
  if (process.env.CI || !existsSync(join(root, HOOKS))) return;
  // A copy of these files inside another repository is none of our business.
  if (realpathSync(git("rev-parse", "--show-toplevel")) !== root) return;
  const current = setting("core.hooksPath");
  if (current === HOOKS) return;
  if (current !== "") {
    console.log(`git's core.hooksPath stays ${current}. For this repository's: git config core.hooksPath ${HOOKS}`);
    return;
  }
  git("config", "core.hooksPath", HOOKS);
  console.log(`git runs the hooks in ${HOOKS} from now on: see CONTRIBUTING.md`);
}

try {
  setHooks();
} catch {
  // No git, no repository, or a configuration that cannot be written: `npm run check` finds the same.
}
