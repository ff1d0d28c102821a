import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * The folder of package.json: where files that are not code (migrations, the pom) are found from source and from dist.
 */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
}

/**
 * The compiled file of a module, for what runs as a process or a thread of its own: Node runs only compiled code, and
 * the tests run from source.
 *
 * @param path from the package's root, without its ending: `models/training/worker`
 */
export function compiledModule(path: string): string {
  return join(packageRoot(), "dist", `${path}.js`);
}
