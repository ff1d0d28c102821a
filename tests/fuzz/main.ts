/** Broken input of every kind: `npm run test:fuzz -- --help`. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runCommand } from "../../infra/lifecycle/lifecycle.js";
import { createLogger } from "../../infra/logging.js";
import { UsageError, messageOf } from "../../schemas/errors.js";
import { Engines } from "../endurance/engines.js";
import { csvSamples } from "./csv-samples.js";
import { fuzzCsv, fuzzOnnx, fuzzParquet } from "./files.js";
import { Findings } from "./findings.js";
import { LiveSystem } from "./live.js";
import { fuzzRecords } from "./records.js";

const PARTS = ["records", "csv", "parquet", "onnx", "kafka", "http"] as const;
type Part = (typeof PARTS)[number];
const DEFAULTS = {
  seed: 1,
  records: 1_000_000,
  csv: 5_000,
  parquet: 5_000,
  onnx: 20_000,
  "kafka-records": 50_000,
  requests: 20_000,
};
/** One in so many ONNX files goes through a process of its own. */
const PROCESS_OF = 50;
const TOLD_EVERY_MS = 10_000;

const USAGE = `npm run test:fuzz -- [${PARTS.join("] [")}] [options]

  --seed N            what is made of everything that is random (${DEFAULTS.seed})
  --records N         mutated Avro and JSON records through the steps of scoring, in this process (${DEFAULTS.records})
  --csv N             mutated CSV files, read as training does (${DEFAULTS.csv})
  --parquet N         mutated Parquet files, read as a stranger's (${DEFAULTS.parquet})
  --onnx N            mutated ONNX files, one in ${PROCESS_OF} in a process of its own (${DEFAULTS.onnx})
  --kafka-records N   mutated records through Kafka, a worker and the sink (${DEFAULTS["kafka-records"]})
  --requests N        HTTP requests made from the OpenAPI document (${DEFAULTS.requests})

Without parts: all of them. The same seed makes the same input. The exit code is 1 when anything was found.`;

const log = createLogger({ logLevel: "warn" }, "fuzz");
await runCommand(log, async (lifecycle) => {
  const { parts, numbers, help } = parse();
  if (help) return void process.stdout.write(`${USAGE}\n`);
  const { signal } = lifecycle;
  const { seed } = numbers;
  const findings = new Findings();
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  let toldAt = Date.now();
  const progress =
    (part: Part, of: number) =>
    (done: number): void => {
      if (Date.now() - toldAt < TOLD_EVERY_MS) return;
      toldAt = Date.now();
      say(`${part}: ${done.toLocaleString("en")} of ${of.toLocaleString("en")}, ${findings.count} findings`);
    };
  const run = async (
    part: Part,
    of: number,
    work: (onProgress: (done: number) => void) => Promise<object>,
  ): Promise<void> => {
    if (!parts.includes(part) || signal.aborted) return;
    const started = Date.now();
    const counts = await work(progress(part, of));
    say(JSON.stringify({ part, seed, seconds: Math.round((Date.now() - started) / 1_000), ...counts }));
  };
  await run("records", numbers.records, (onProgress) =>
    fuzzRecords(seed, numbers.records, findings, onProgress, signal),
  );
  await run("csv", numbers.csv, async (onProgress) =>
    fuzzCsv(seed, numbers.csv, await csvSamples(), findings, onProgress, signal),
  );
  await run("parquet", numbers.parquet, (onProgress) =>
    fuzzParquet(seed, numbers.parquet, findings, onProgress, signal),
  );
  await run("onnx", numbers.onnx, (onProgress) =>
    fuzzOnnx(seed, numbers.onnx, PROCESS_OF, findings, onProgress, signal),
  );
  if (parts.some((part) => part === "kafka" || part === "http") && !signal.aborted) {
    const dataDir = await mkdtemp(join(tmpdir(), "fraudstream-fuzz-"));
    lifecycle.add("data", () => rm(dataDir, { recursive: true, force: true }));
    const engines = await Engines.start({ dataDir, progress: say, signal });
    lifecycle.add("engines", () => engines.stop());
    const live = await LiveSystem.start(engines, dataDir);
    lifecycle.add("roles", () => live.close(new Findings()));
    await run("kafka", numbers["kafka-records"], (onProgress) =>
      live.records(seed, numbers["kafka-records"], findings, onProgress, signal),
    );
    await run("http", numbers.requests, (onProgress) =>
      live.requests(seed, numbers.requests, findings, onProgress, signal),
    );
    await live.close(findings);
  }
  for (const { what, how } of findings.found) say(`FOUND: ${what}\n       ${how}`);
  say(`${findings.count} findings; the longest took ${findings.slowestMs.toFixed(0)} ms of processor time`);
  if (findings.count > 0) process.exitCode = 1;
});

function parse(): { parts: readonly Part[]; numbers: typeof DEFAULTS; help: boolean } {
  const names = Object.keys(DEFAULTS) as (keyof typeof DEFAULTS)[];
  const texts = Object.fromEntries(names.map((name) => [name, { type: "string" as const }]));
  let parsed: { values: Record<string, string | boolean | undefined>; positionals: string[] };
  try {
    parsed = parseArgs({ allowPositionals: true, options: { ...texts, help: { type: "boolean" } } });
  } catch (error) {
    throw new UsageError("bad_option", messageOf(error));
  }
  const unknown = parsed.positionals.find((part) => !PARTS.some((known) => known === part));
  if (unknown !== undefined)
    throw new UsageError("bad_option", `there is no part ${JSON.stringify(unknown)}; there are ${PARTS.join(", ")}`);
  const numbers = { ...DEFAULTS };
  for (const name of names) {
    const value = Number(parsed.values[name] ?? DEFAULTS[name]);
    if (!Number.isSafeInteger(value) || value < 1)
      throw new UsageError(
        "bad_option",
        `--${name} is ${String(parsed.values[name])}; it must be a whole number from 1`,
      );
    numbers[name] = value;
  }
  return {
    parts: parsed.positionals.length > 0 ? (parsed.positionals as Part[]) : PARTS,
    numbers,
    help: parsed.values["help"] === true,
  };
}
