/**
 * Faults against a running system, and what must hold afterwards: `npm run test:faults -- --minutes 4 --seed 7`. See
 * README.md beside this file.
 */
import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { readConfig } from "../../infra/config/config.js";
import { runCommand } from "../../infra/lifecycle/lifecycle.js";
import { createLogger } from "../../infra/logging.js";
import { packageRoot } from "../../infra/package-root.js";
import { messageOf, UsageError } from "../../schemas/errors.js";
import { dropAbortedRecords } from "./aborted-records.js";
import { addResult, seedsIn, seedsOf } from "./results.js";
import { runSeed } from "./run.js";
import { runSabotage, SABOTAGES, verdictOf, type Sabotage } from "./sabotage.js";
import { System } from "./system.js";

interface Options {
  seed?: string;
  seeds?: string;
  minutes: string;
  rate: string;
  results: string;
  sabotage?: string;
  keep: boolean;
}

const say = (line: string): void => void process.stdout.write(`${new Date().toISOString().slice(11, 19)}  ${line}\n`);

function numberOf(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (!(value >= least && value <= most))
    throw new UsageError("bad_option", `--${name} is ${text}; it must be a number from ${least} to ${most}`);
  return value;
}

const log = createLogger({ logLevel: "warn" }, "faults");
const command = new Command("npm run test:faults --")
  .description("Breaks a running system at random, and counts what became of every transaction.")
  .option("--seed <number>", "the faults and the traffic are drawn from it; without it one is drawn and printed")
  .option("--seeds <list>", "several, such as 1-20 or 3,7: those that have held by the results are skipped")
  .option("--minutes <number>", "how long faults go on for each seed", "4")
  .option("--rate <number>", "transactions a second", "400")
  .option(
    "--results <file>",
    "one JSON line a seed is appended to it",
    join(packageRoot(), "tests/faults/results.jsonl"),
  )
  .option(
    "--sabotage <name>",
    `break a guarantee on purpose, which the checker must notice: all, or ${SABOTAGES.join(", ")}`,
  )
  .option("--keep", "keep the logs of every run, not only of failed ones", false);
command.parse();
const options = command.opts<Options>();

await runCommand(log, async (lifecycle) => {
  const { signal } = lifecycle;
  dropAbortedRecords();
  const minutes = numberOf("minutes", options.minutes, 0.2, 600);
  const rate = numberOf("rate", options.rate, 10, 20_000);
  const seeds =
    options.seeds === undefined
      ? [options.seed === undefined ? Date.now() % 1_000_000 : numberOf("seed", options.seed, 0, 999_999_999)]
      : seedsOf(options.seeds);
  if (seeds === null)
    throw new UsageError(
      "bad_option",
      `--seeds is ${String(options.seeds)}; it must be a list such as 1-20 or 3,7,9-12`,
    );
  const sabotages = options.sabotage === "all" ? [...SABOTAGES] : SABOTAGES.filter((name) => name === options.sabotage);
  if (options.sabotage !== undefined && sabotages.length === 0)
    throw new UsageError(
      "bad_option",
      `--sabotage is ${options.sabotage}; it must be all, or one of ${SABOTAGES.join(", ")}`,
    );
  const { cacheDir } = readConfig();

  if (sabotages.length > 0) {
    if (await withSystem((system) => sabotageAll(system, sabotages))) process.exitCode = 1;
    return;
  }
  const done = options.seeds === undefined ? new Set<number>() : seedsIn(options.results);
  for (const seed of seeds) {
    if (signal.aborted) return;
    if (done.has(seed)) {
      say(`seed ${seed} has held already, by ${options.results}`);
      continue;
    }
    say(`seed ${seed}: ${minutes} minutes, ${rate} transactions a second`);
    const failed = await withSystem(async (system, dir) => {
      const result = await runSeed({ system, seed, minutes, rate, dir, signal, say });
      addResult(options.results, result);
      say(`seed ${seed}: ${JSON.stringify({ ...result.seconds, ...result.faults, counts: result.counts })}`);
      for (const each of result.fell) say(`  fell: ${each}`);
      for (const each of result.wrong) say(`  WRONG: ${each}`);
      say(
        result.verdict === "held"
          ? `seed ${seed} held: nothing lost, nothing doubled, in order`
          : `seed ${seed} FAILED. Again: npm run test:faults -- --minutes ${minutes} --rate ${rate} --seed ${seed}`,
      );
      return result.verdict === "failed";
    }).catch((error: unknown) => {
      signal.throwIfAborted();
      log.error({ err: error }, messageOf(error));
      say(`seed ${seed} broke off. Again: npm run test:faults -- --minutes ${minutes} --rate ${rate} --seed ${seed}`);
      return true;
    });
    if (failed) process.exitCode = 1;
  }

  /** @returns whether one was missed */
  async function sabotageAll(system: System, names: readonly Sabotage[]): Promise<boolean> {
    let missed = 0;
    for (const name of names) {
      const said = await runSabotage({ system, name, seed: seeds?.[0] ?? 1, signal, say });
      for (const each of said.slice(0, 6)) say(`  ${each.slice(0, 400)}`);
      const { right, words } = verdictOf(name, said);
      say(`${name}: ${words}`);
      if (!right) missed += 1;
    }
    say(missed === 0 ? "the checker was right each time" : `the checker was wrong ${missed} times of ${names.length}`);
    return missed > 0;
  }

  /**
   * Engines of its own for each run, ended and removed whatever happens. @param work true: something failed, and the
   * logs are kept
   */
  async function withSystem(work: (system: System, dir: string) => Promise<boolean>): Promise<boolean> {
    const dir = await mkdtemp(join(tmpdir(), "fraudstream-faults-"));
    const system = new System(dir);
    let keep = true;
    try {
      await system.startEngines(cacheDir);
      const outcome = await work(system, dir);
      keep = outcome || options.keep;
      return outcome;
    } finally {
      await system.close();
      if (keep && !signal.aborted) say(`logs: ${await kept(dir)}`);
      await rm(dir, { recursive: true, force: true });
    }
  }
});

/** Puts what tells about a run aside: logs of roles and engines, and the actions. */
async function kept(dir: string): Promise<string> {
  const to = `${dir}-logs`;
  await mkdir(to, { recursive: true });
  await cp(dir, to, {
    recursive: true,
    filter: (source) => !/\/(data|schemas|clickhouse-spool)(\/|$)/.test(source.slice(dir.length)),
  });
  return to;
}
