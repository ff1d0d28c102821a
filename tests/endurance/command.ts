import { appendFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { runCommand } from "../../infra/lifecycle/lifecycle.js";
import { createLogger } from "../../infra/logging.js";
import { UsageError, messageOf } from "../../schemas/errors.js";
import type { TestModel } from "../support/models.js";
import { Engines } from "./engines.js";
import { PacedLoad } from "./load.js";
import { countOutcomes, type Outcomes } from "./outcomes.js";
import { Sampler, type Sample } from "./sampler.js";
import { SystemUnderLoad } from "./system.js";

/** A number that a run takes, with its default and what it means. */
interface Option {
  default: number;
  what: string;
}

export interface Endurance<Name extends string> {
  name: string;
  /** First line of `--help`. */
  about: string;
  options: Record<Name, Option>;
  champion?: (options: Record<Name, number>) => TestModel;
  settings?: Record<string, string>;
  sampling: (options: Record<Name, number>) => { everyMs: number; probesPerSecond: number };
  /** The run itself. @returns its figures, and everything that was wrong */
  run: (run: Run<Name>) => Promise<{ figures: Record<string, unknown>; wrong: string[] }>;
}

interface Run<Name extends string> {
  options: Record<Name, number>;
  engines: Engines;
  under: SystemUnderLoad;
  load: PacedLoad;
  sampler: Sampler;
  /** Aborts at Ctrl-C. */
  signal: AbortSignal;
  say: (line: string) => void;
  /** Lets a phase of the run last so long. */
  phase: (name: string, seconds: number) => Promise<void>;
  /** Waits until a sample satisfies a condition. @returns seconds it took; null: not within the patience */
  until: (phase: string, condition: (sample: Sample) => boolean, patienceSeconds: number) => Promise<number | null>;
}

const TOLD_EVERY_MS = 15_000;
const DRAIN_SECONDS = 1_800;

/** A command that runs everything under load: engines, roles, load, samples, and in the end the count of outcomes. */
export async function runEndurance<Name extends string>(endurance: Endurance<Name>): Promise<void> {
  const log = createLogger({ logLevel: "warn" }, endurance.name);
  await runCommand(log, async (lifecycle) => {
    const given = parse(endurance);
    if (given === null) return;
    const { options, keep, resultsFile } = given;
    const started = new Date();
    const say = (line: string): void =>
      void process.stdout.write(`${((Date.now() - started.getTime()) / 1_000).toFixed(0).padStart(5)} s  ${line}\n`);
    const dataDir = await mkdtemp(join(tmpdir(), `fraudstream-${endurance.name}-`));
    lifecycle.add("data", () =>
      keep ? say(`logs and data stay in ${dataDir}`) : rm(dataDir, { recursive: true, force: true }),
    );
    const { signal } = lifecycle;
    const engines = await Engines.start({ dataDir, progress: say, signal });
    lifecycle.add("engines", () => engines.stop());
    const under = await SystemUnderLoad.start(engines, {
      dataDir,
      ...(endurance.champion === undefined ? {} : { champion: endurance.champion(options) }),
      ...(endurance.settings === undefined ? {} : { settings: endurance.settings }),
    });
    lifecycle.add("roles", () => under.stop());
    say(
      "all roles are ready: " +
        `${under.roles.map(({ name, process, port }) => `${name} ${process.child.pid} on ${port}`).join(", ")}`,
    );
    const load = await PacedLoad.open(under.system);
    lifecycle.add("load", () => load.close());
    const sampler = new Sampler(under, load, endurance.sampling(options));
    const told = setInterval(() => say(lineOf(sampler)), TOLD_EVERY_MS);
    lifecycle.add("samples", () => (clearInterval(told), sampler.stop()));

    const wait = async (seconds: number): Promise<void> => {
      await sleep(seconds * 1_000, undefined, { signal });
      load.throwIfFailed();
      if (under.ended.length > 0) throw new Error(under.ended.join("; "));
    };
    const phase = async (name: string, seconds: number): Promise<void> => {
      sampler.phase = name;
      say(`phase: ${name}, ${seconds.toFixed(0)} s`);
      for (const end = sampler.seconds + seconds; sampler.seconds < end;)
        await wait(Math.min(1, Math.max(0.01, end - sampler.seconds)));
    };
    const until = async (
      name: string,
      condition: (sample: Sample) => boolean,
      patienceSeconds: number,
    ): Promise<number | null> => {
      sampler.phase = name;
      say(`phase: ${name}`);
      const from = sampler.seconds;
      for (;;) {
        const { last } = sampler;
        if (last !== undefined && last.seconds > from && condition(last)) return last.seconds - from;
        if (sampler.seconds - from > patienceSeconds) return null;
        await wait(0.2);
      }
    };
    const { figures, wrong } = await endurance.run({
      options,
      engines,
      under,
      load,
      sampler,
      signal,
      say,
      phase,
      until,
    });

    await load.stop();
    sampler.asking = false;
    say(`${load.acknowledged} transactions are published`);
    if (
      (await until("drained", ({ scoringLag, sinkLag }) => scoringLag === 0 && sinkLag === 0, DRAIN_SECONDS)) === null
    )
      wrong.push("the lag did not come down to 0");
    clearInterval(told);
    await sampler.stop();
    const outcomes = await countOutcomes(under, load.acknowledged, sampler.asked);
    wrong.push(...outcomes.wrong, ...(await under.stopRoles()));
    report({ endurance: endurance.name, options, started, figures, outcomes, wrong, resultsFile });
  });
}

function lineOf({ last, phase, probes }: Sampler): string {
  if (last === undefined) return phase;
  const memory = Object.entries(last.residentMb)
    .map(([name, mb]) => `${name} ${mb}`)
    .join(" ");
  const unready = Object.entries(last.ready)
    .filter(([, status]) => status !== 200)
    .map(([name]) => name);
  const probe = probes.findLast(({ what }) => what === "predict")?.answer;
  return (
    `${phase}: published ${last.published} (+${last.waiting}), lag scoring ${last.scoringLag ?? "?"} sink ` +
    `${last.sinkLag ?? "?"}, MB ${memory}, POST ${probe?.status} in ${probe?.ms.toFixed(0)} ` +
    `ms${unready.length > 0 ? `, not ready: ${unready.join(" ")}` : ""}`
  );
}

function report({
  endurance,
  options,
  started,
  figures,
  outcomes: { wrong: _, ...outcomes },
  wrong,
  resultsFile,
}: {
  endurance: string;
  options: Record<string, number>;
  started: Date;
  figures: Record<string, unknown>;
  outcomes: Outcomes;
  wrong: string[];
  resultsFile: string | null;
}): void {
  const result = {
    run: endurance,
    started: started.toISOString(),
    minutes: Number(((Date.now() - started.getTime()) / 60_000).toFixed(1)),
    options,
    cores: cpus().length,
    load_average: loadavg().map((load) => Number(load.toFixed(1))),
    ...figures,
    outcomes,
    wrong,
  };
  const line = JSON.stringify(result);
  process.stdout.write(`${line}\n`);
  for (const each of wrong) process.stdout.write(`WRONG: ${each}\n`);
  process.stdout.write(wrong.length === 0 ? `${endurance}: held\n` : `${endurance}: FAILED\n`);
  if (resultsFile !== null) appendFileSync(resultsFile, `${line}\n`);
  if (wrong.length > 0) process.exitCode = 1;
}

function parse<Name extends string>({
  name,
  about,
  options,
}: Endurance<Name>): { options: Record<Name, number>; keep: boolean; resultsFile: string | null } | null {
  const names = Object.keys(options) as Name[];
  const usage = [
    `npm run test:${name} [-- options]`,
    "",
    about,
    "",
    ...names.map((option) => `  --${option} N`.padEnd(24) + `${options[option].what} (${options[option].default})`),
    "  --results FILE".padEnd(24) + "appends the result as a line of JSON",
    "  --keep".padEnd(24) + "leaves logs and data where they are",
  ];
  const texts = Object.fromEntries([...names, "results"].map((option) => [option, { type: "string" as const }]));
  let values: Record<string, string | boolean | undefined>;
  try {
    ({ values } = parseArgs({ options: { ...texts, keep: { type: "boolean" }, help: { type: "boolean" } } }) as {
      values: typeof values;
    });
  } catch (error) {
    throw new UsageError("bad_option", messageOf(error));
  }
  if (values["help"] === true) {
    process.stdout.write(`${usage.join("\n")}\n`);
    return null;
  }
  const numbers = Object.fromEntries(
    names.map((option) => {
      const value = values[option] === undefined ? options[option].default : Number(values[option]);
      if (!(value > 0))
        throw new UsageError("bad_option", `--${option} is ${String(values[option])}; it must be a number above 0`);
      return [option, value];
    }),
  );
  return {
    options: numbers as Record<Name, number>,
    keep: values["keep"] === true,
    resultsFile: (values["results"] as string | undefined) ?? null,
  };
}
