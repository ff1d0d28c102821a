import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../infra/package-root.js";
import { errorPage } from "../../schemas/error-page.js";

/**
 * `npm run errors` writes the page of the error codes; with --check it only says whether the page is what the table
 * says.
 */
const file = join(packageRoot(), "schemas/ERRORS.md");
if (!process.argv.includes("--check")) writeFileSync(file, errorPage());
else if (readFileSync(file, "utf8") !== errorPage()) {
  process.stderr.write("schemas/ERRORS.md is not what schemas/error-codes says: run `npm run errors`\n");
  process.exitCode = 1;
}
