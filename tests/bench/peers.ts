/**
 * Ours and every peer of tests/bench/peers on the same broker, data and model: one table. The main figure is
 * CPU-seconds of the process a million transactions, start-up included, the median of interleaved runs; the table is
 * printed after each round. Of every run count, distinct ids and each id's score are checked.
 *
 *   npm run bench:peers [-- --runs 3] [--only "plain java,quix"]
 */
import { cpus, loadavg } from "node:os";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { BenchContext } from "./support/context.js";
import { Million, median, type Run } from "./support/million.js";
import { peerPrograms } from "./support/peer-programs.js";

interface Row {
  who: string;
  guarantee: string;
  run: (() => Promise<{ run: Run; difference: number | null }>) | null;
  runs: Run[];
  loads: number[];
  problem: string | null;
}

export async function benchPeers(context: BenchContext): Promise<void> {
  const { print, options } = context;
  const million = await Million.prepare(context);
  try {
    const missing = await million.peers.preparePython(print);
    const rows: Row[] = peerPrograms(million.peers, million.bench.bootstrap).map(
      ({ who, guarantee, records, environment, command }) => {
        const problem = environment === null ? null : (missing.get(environment) ?? null);
        return {
          who,
          guarantee,
          runs: [],
          loads: [],
          problem,
          run: problem === null ? () => million.program(who, command, records) : null,
        };
      },
    );
    // After the first peer, which all scores are compared with.
    rows.splice(
      1,
      0,
      {
        who: "**fraudstream**",
        guarantee: "exactly once",
        runs: [],
        loads: [],
        problem: null,
        run: () => million.ours("fraudstream"),
      },
      {
        who: "**fraudstream**, two workers",
        guarantee: "exactly once",
        runs: [],
        loads: [],
        problem: null,
        run: () => million.ours("fraudstream, two workers", 2),
      },
    );
    const chosen = rows.filter(
      (row, i) =>
        i === 0 || options.only.length === 0 || options.only.some((word) => row.who.toLowerCase().includes(word)),
    );
    for (let round = 1; round <= options.runs; round++) {
      for (const row of chosen) await runOnce(row, round, print);
      for (const line of table(chosen)) print(line);
    }
  } finally {
    await million.close();
  }
}

/** A peer that fails is named in the table and does not end the others' runs; ours failing does. */
async function runOnce(row: Row, round: number, print: (line: string) => void): Promise<void> {
  if (row.run === null) return;
  try {
    const { run, difference } = await row.run();
    row.runs.push(run);
    row.loads.push(loadavg()[0]);
    print(
      `  ${round}. ${row.who} (${row.guarantee}): ${perMillion(run).toFixed(1)} CPU-s a million, ` +
        `${Math.round(run.records / run.wallSeconds)} a second, ${run.peakMb} MB, load ` +
        `${loadavg()[0].toFixed(1)}${difference === null ? "" : `, scores within ${difference.toExponential(1)}`}`,
    );
  } catch (error) {
    if (row.who.includes("fraudstream")) throw error;
    row.problem = error instanceof FraudstreamError ? error.code : messageOf(error);
    print(`  ${round}. ${row.who} (${row.guarantee}): ${row.problem}`);
  }
}

function table(rows: Row[]): string[] {
  const java = median(rows[0].runs.map(perMillion));
  return [
    `${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores (${cpus()[0].model.trim()}), Node ` +
      `${process.versions.node}`,
    "| | guarantee | CPU-s a million, median (least to most) | to plain Java, exactly once | a second, by " +
      "the clock, start-up included | peak MB | runs | load |",
    "|---|---|---|---|---|---|---|---|",
    ...rows.map(({ who, guarantee, runs, loads, problem }) => {
      if (runs.length === 0) return `| ${who} | ${guarantee} | not run: ${problem ?? "no run"} | | | | | |`;
      const cpu = runs.map(perMillion);
      const perSecond = Math.round(median(runs.map(({ records, wallSeconds }) => records / wallSeconds)));
      const load = loads.map((value) => value.toFixed(0)).join(", ");
      return (
        `| ${who}${problem === null ? "" : ` (a run failed: ${problem})`} | ${guarantee} | ` +
        `${median(cpu).toFixed(1)} (${Math.min(...cpu).toFixed(1)} to ${Math.max(...cpu).toFixed(1)}) | ` +
        `${(median(cpu) / java).toFixed(2)} | ${perSecond.toLocaleString("en")} | ` +
        `${median(runs.map(({ peakMb }) => peakMb))} | ` +
        `${runs.length}${runs[0].records < 1_000_000 ? ` of ${runs[0].records.toLocaleString("en")}` : ""} ` +
        `| ${load} |`
      );
    }),
  ];
}

function perMillion({ cpuSeconds, records }: Run): number {
  return (cpuSeconds / records) * 1e6;
}
