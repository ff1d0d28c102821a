/**
 * The scoring path on the 1,000,000 Avro transactions of tests/bench/peers, exactly once, with our full Prediction
 * record, interleaved with the hand-written Java peer on the same broker, data and model; every run's scores are
 * compared with the peer's, id by id. `npm run bench:peers` has all peers.
 *
 *   npm run bench -- scoring [--runs 3] [--no-peer]
 */
import { loadavg } from "node:os";
import type { BenchContext } from "./support/context.js";
import { Million, RECORDS, median, type Run } from "./support/million.js";
import { plainJava } from "./support/peer-programs.js";

export async function benchScoring(context: BenchContext): Promise<void> {
  const { print, options } = context;
  const million = await Million.prepare(context);
  const runs: Record<"ours" | "java", Run[]> = { ours: [], java: [] };
  const keep = (of: keyof typeof runs, { run, difference }: { run: Run; difference: number | null }): void => {
    runs[of].push(run);
    const compared = difference === null ? "" : `, scores within ${difference.toExponential(1)} of the first run's`;
    print(
      `  ${run.who}: ${run.cpuSeconds.toFixed(1)} CPU-s, ${run.wallSeconds.toFixed(1)} s, peak ${run.peakMb} ` +
        `MB; ${RECORDS} predictions, each id once${compared}; load ${loadavg()[0].toFixed(1)}`,
    );
  };
  try {
    const java = plainJava(million.peers, million.bench.bootstrap, "exactly_once");
    for (let round = 1; round <= options.runs; round++) {
      if (options.peer) keep("java", await million.program("plain Java", java));
      keep("ours", await million.ours("fraudstream"));
    }
    const cpu = median(runs.ours.map(({ cpuSeconds }) => cpuSeconds));
    print(
      `scoring: ${cpu.toFixed(1)} CPU-seconds a million (median of ${options.runs}), ${rate(runs.ours)} a ` +
        `second, peak ${median(runs.ours.map(({ peakMb }) => peakMb))} MB`,
    );
    if (options.peer) {
      const other = median(runs.java.map(({ cpuSeconds }) => cpuSeconds));
      print(
        `         plain Java ${other.toFixed(1)}, ${rate(runs.java)} a second, peak ` +
          `${median(runs.java.map(({ peakMb }) => peakMb))} MB; ratio of CPU ${(cpu / other).toFixed(2)}`,
      );
    }
  } finally {
    await million.close();
  }
}

function rate(runs: Run[]): string {
  return Math.round(RECORDS / median(runs.map(({ wallSeconds }) => wallSeconds))).toLocaleString("en");
}
