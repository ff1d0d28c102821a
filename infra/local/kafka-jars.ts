import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { FraudstreamError } from "../../schemas/errors.js";
import { packageRoot } from "../package-root.js";

/** The version in kafka-pom.xml; the cache folder carries it, so another version never meets these jars. */
export const KAFKA_VERSION = "4.1.1";

/** The folder of the broker's jars; it is complete once it exists. */
export function kafkaJars(cacheDir: string): string {
  return join(cacheDir, `kafka-${KAFKA_VERSION}`);
}

/**
 * The broker's jars in the cache, fetched with Maven if they are not there yet (43 MB). They are fetched beside the
 * cache folder and moved into it at once, so an interrupted fetch leaves nothing half done, and two at a time don't
 * meet.
 *
 * @throws FraudstreamError `kafka_download` with Maven's last words
 */
export async function fetchKafkaJars(
  cacheDir: string,
  progress: (line: string) => void,
  signal?: AbortSignal,
): Promise<string> {
  const folder = kafkaJars(cacheDir);
  if (existsSync(folder)) return folder;
  await mkdir(dirname(folder), { recursive: true });
  await removeAbandoned(folder);
  const fresh = await mkdtemp(`${folder}.fetching-`);
  const startedAt = Date.now();
  const tell = async (): Promise<void> => {
    const jars = (await readdir(fresh).catch(() => [])).length;
    progress(
      `Fetching Apache Kafka ${KAFKA_VERSION} (43 MB, this once): ` +
        `${Math.round((Date.now() - startedAt) / 1000)} s, ${jars === 0 ? "resolving" : `${jars} jars`}`,
    );
  };
  const timer = setInterval(() => void tell(), 3_000);
  try {
    await tell();
    await copyDependencies(fresh, signal);
    await rename(fresh, folder).catch((error: NodeJS.ErrnoException) => {
      // Another process was faster; its jars are the same.
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    });
  } finally {
    clearInterval(timer);
    await rm(fresh, { recursive: true, force: true });
  }
  progress(`Apache Kafka ${KAFKA_VERSION} is in ${folder}`);
  return folder;
}

/** What fetches that were killed have left, once they are an hour old. */
async function removeAbandoned(folder: string): Promise<void> {
  const names = (await readdir(dirname(folder))).filter((name) => name.startsWith(`${basename(folder)}.fetching-`));
  for (const path of names.map((name) => join(dirname(folder), name))) {
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }));
    if (mtimeMs < Date.now() - 3_600_000) await rm(path, { recursive: true, force: true });
  }
}

async function copyDependencies(into: string, signal?: AbortSignal): Promise<void> {
  const pom = join(packageRoot(), "infra/local/kafka-pom.xml");
  const args = [
    "-B",
    "-q",
    "-f",
    pom,
    "dependency:copy-dependencies",
    "-DincludeScope=runtime",
    `-DoutputDirectory=${into}`,
  ];
  // Detached: Ctrl-C in a terminal ends it through `signal`, in our order.
  const maven = spawn("mvn", args, {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
    ...(signal === undefined ? {} : { signal }),
  });
  let words = "";
  for (const stream of [maven.stdout, maven.stderr])
    stream.on("data", (piece: Buffer) => (words = (words + piece.toString()).slice(-2_000)));
  const code = await new Promise<number | null>((resolve, reject) =>
    maven.once("error", reject).once("close", resolve),
  );
  if (code !== 0)
    throw new FraudstreamError(
      "kafka_download",
      `Maven could not fetch Apache Kafka (exit code ${code}):\n${words.trim()}`,
    );
}
