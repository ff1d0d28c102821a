import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { brokerProperties, type BrokerPlace } from "../../infra/local/kafka-properties.js";

const run = promisify(execFile);
const FORMAT_MS = 300_000;

/** How a broker's log is written. */
export const QUIET = [
  "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
  "-Dorg.slf4j.simpleLogger.showDateTime=true",
  "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
];

/**
 * Writes a broker's properties, and formats its storage.
 *
 * @param ours what differs from the local broker's
 */
export async function prepareStorage(
  { jars, clusterId, properties }: { jars: string; clusterId: string; properties: string },
  place: BrokerPlace,
  ours: Readonly<Record<string, string | number>>,
): Promise<void> {
  // Of a property that is given twice, the last one counts.
  const further = Object.entries(ours).map(([name, value]) => `${name}=${value}\n`);
  await writeFile(properties, brokerProperties(place) + further.join(""));
  await run(
    "java",
    [
      "-Xmx256m",
      "-XX:+UseSerialGC",
      "-XX:TieredStopAtLevel=1",
      ...QUIET,
      "-cp",
      join(jars, "*"),
      "kafka.tools.StorageTool",
      "format",
      "-t",
      clusterId,
      "-c",
      properties,
    ],
    { timeout: FORMAT_MS },
  );
}
