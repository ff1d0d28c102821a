import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { packageRoot } from "../../infra/package-root.js";

/** Public data sets that some tests and benchmarks read; tests/data/README.md says where they come from. */
export type PublicFile = "card-transactions.csv.gz" | "ulb-creditcard-sample.csv.gz";

/** Where a public data set is looked for: in the folder that TEST_DATA names, or in tests/data. */
export function publicFile(name: PublicFile): string {
  return join(resolve(process.env.TEST_DATA ?? join(packageRoot(), "tests/data")), name);
}

/** Whether all of these files are there; prints what is skipped without them. */
export function havePublicFiles(...names: PublicFile[]): boolean {
  const missing = names.filter((name) => !existsSync(publicFile(name)));
  if (missing.length > 0) {
    process.stdout.write(`skipped: ${missing.map(publicFile).join(", ")} not found (see tests/data/README.md)\n`);
  }
  return missing.length === 0;
}
