/** `npm run bench`: every figure of tests/bench/README.md, or only those that are named. */
import { parseArgs } from "node:util";
import { configOrExit } from "../../infra/lifecycle/config-or-exit.js";
import { runCommand } from "../../infra/lifecycle/lifecycle.js";
import { startLocalStack } from "../../infra/local/stack.js";
import { createLogger } from "../../infra/logging.js";
import { UsageError } from "../../schemas/errors.js";
import { benchHistory } from "./history.js";
import { benchHttp } from "./http.js";
import { benchLatency } from "./latency.js";
import { benchMemory } from "./memory.js";
import { benchMerchants } from "./merchants.js";
import { benchPeers } from "./peers.js";
import { benchScoring } from "./scoring.js";
import type { BenchContext } from "./support/context.js";
import { script } from "./support/script.js";
import { benchSwap } from "./swap.js";

const BENCHMARKS: Record<string, (context: BenchContext) => Promise<void>> = {
  scoring: benchScoring,
  latency: benchLatency,
  http: benchHttp,
  swap: benchSwap,
  memory: benchMemory,
  history: benchHistory,
  merchants: benchMerchants,
  sink: script("tests/bench/sink"),
  training: script("tests/bench/training"),
  explain: script("tests/bench/explain"),
  models: script("tests/bench/models"),
  peers: benchPeers,
};
/** Takes half an hour: only when it is named, or by `npm run bench:peers`. */
const LONG = new Set(["peers"]);

const USAGE = `npm run bench -- [${Object.keys(BENCHMARKS).join("] [")}] [--runs N] [--no-peer]

  --runs N    interleaved runs of the scoring path and the Java peer (3)
  --no-peer   without the Java peer: no ratio, and scores are not compared
  --only A,B  of the peers those whose names have one of these in them
  --curve     latency against the rate, too

Engines: those of KAFKA_BROKERS and CLICKHOUSE_URL, or a local stack under DATA_DIR/bench.`;

const OPTIONS = {
  runs: { type: "string", default: "3" },
  "no-peer": { type: "boolean", default: false },
  only: { type: "string", default: "" },
  curve: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
} as const;

const config = configOrExit();
const log = createLogger({ logLevel: "warn" }, "bench");
await runCommand(log, async (lifecycle) => {
  const { values, positionals } = parse();
  if (values.help) return void process.stdout.write(`${USAGE}\n`);
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1)
    throw new UsageError("bad_option", `--runs is ${values.runs}; it must be a whole number from 1`);
  const names = positionals.length > 0 ? positionals : Object.keys(BENCHMARKS).filter((name) => !LONG.has(name));
  const unknown = names.find((name) => !(name in BENCHMARKS));
  if (unknown !== undefined)
    throw new UsageError(
      "bad_option",
      `there is no benchmark ${unknown}; there are ${Object.keys(BENCHMARKS).join(", ")}`,
    );

  const dataDir = `${config.dataDir}/bench`;
  const own = { ...config, dataDir, artifacts: `${dataDir}/artifacts` };
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  const stack = await startLocalStack({
    config: own,
    log,
    progress: (line) => process.stderr.write(`${line}\n`),
    signal: lifecycle.signal,
  });
  lifecycle.add("local stack", () => stack.stop());
  for (const name of names)
    await BENCHMARKS[name]({
      config: own,
      kafka: stack.kafka,
      clickhouse: stack.clickhouse,
      log,
      print,
      options: {
        runs,
        peer: !values["no-peer"],
        only: values.only
          .toLowerCase()
          .split(",")
          .filter((word) => word !== ""),
        curve: values.curve,
      },
    });
});

function parse(): ReturnType<typeof parseArgs<{ allowPositionals: true; options: typeof OPTIONS }>> {
  try {
    return parseArgs({ allowPositionals: true, options: OPTIONS });
  } catch (error) {
    throw new UsageError("bad_option", error instanceof Error ? error.message : String(error));
  }
}
