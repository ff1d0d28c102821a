import { readFile } from "node:fs/promises";
import { parseFeatures, parseFeaturesFile, type FeatureEntry } from "../../models/features/features-file.js";
import { RequestError, messageOf } from "../../schemas/errors.js";

/**
 * What `--features` asks for: names, and files (NAME.json) of features.
 *
 * @throws RequestError `bad_features`
 */
export async function readFeatures(names: readonly string[]): Promise<FeatureEntry[]> {
  const entries: FeatureEntry[] = [];
  for (const name of names) {
    if (!name.endsWith(".json")) entries.push(name);
    else entries.push(...parseFeaturesFile(name, await textOf(name)));
  }
  return parseFeatures(entries);
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new RequestError("bad_features", `--features ${file}: it can't be read: ${messageOf(cause)}`, { cause });
  }
}
