import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../infra/package-root.js";
import { featuresSchema } from "../../models/features/features-file.js";

/**
 * `npm run features-schema` writes the JSON schema of a features file; with --check it only says whether it is what the
 * code reads.
 */
const file = join(packageRoot(), "schemas/features.schema.json");
if (!process.argv.includes("--check")) writeFileSync(file, featuresSchema());
else if (readFileSync(file, "utf8") !== featuresSchema()) {
  process.stderr.write("schemas/features.schema.json is not what is read: run `npm run features-schema`\n");
  process.exitCode = 1;
}
