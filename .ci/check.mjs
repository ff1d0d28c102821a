// `npm run check`: runs the scripts of package.json whose name begins with `check:`, in their order there, up to the
// first that fails. The quick ones come first.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

const HINTS = {
  "check:schemas": "npm run schemas",
  "check:format": "npm run format",
  "check:errors": "npm run errors",
};

const { scripts } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
for (const name of Object.keys(scripts).filter((script) => script.startsWith("check:"))) {
  const start = performance.now();
  const { status, error } = spawnSync("npm", ["run", "--silent", name], {
    stdio: "inherit",
    shell: process.platform === "win32",
  });
  if (error) throw error;
  if (status !== 0) {
    const advice = HINTS[name] === undefined ? `"What npm run check refuses" in CONTRIBUTING.md` : HINTS[name];
    console.error(`\nnpm run ${name} failed. To mend it: ${advice}`);
    process.exit(1);
  }
  console.log(`${name}: passed in ${((performance.now() - start) / 1000).toFixed(1)} s`);
}
