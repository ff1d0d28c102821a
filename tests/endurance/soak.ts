/**
 * All roles under a steady load for a long time: resident memory, file descriptors, lag and latency must be flat over
 * the last half. `npm run test:soak -- --help`.
 */
import { runEndurance } from "./command.js";
import { keptStateMb } from "./kept-state.js";
import { quantileOf, slopeOf } from "./slopes.js";
import { ROLE_NAMES, type Role } from "../../infra/roles.js";

/** What may grow in an hour, over the last half: MB of a role that holds no history, file descriptors, records, ms. */
const MOST_AN_HOUR = { residentMb: 48, handles: 6, lag: 1_000, latencyMs: 20 };
const HOUR_S = 3_600;

await runEndurance({
  name: "soak",
  about:
    "Every role under a steady load; memory, file descriptors, lag and latency have to be flat over the last half.",
  options: {
    minutes: { default: 60, what: "how long" },
    rate: { default: 500, what: "transactions a second" },
  },
  settings: { SNAPSHOT_EVERY: "PT1M" },
  sampling: () => ({ everyMs: 5_000, probesPerSecond: 2 }),
  run: async ({ options: { minutes, rate }, under, load, sampler, phase }) => {
    await load.pace(rate);
    await phase("first half", minutes * 30);
    const atHalf = await keptStateMb(under);
    await phase("last half", minutes * 30);
    const atEnd = await keptStateMb(under);
    const anHour = 60 / (minutes / 2);
    const stateMbAnHour: Partial<Record<Role, number>> = {
      scoring: (atEnd.scoring - atHalf.scoring) * anHour,
      merchants: (atEnd.merchants - atHalf.merchants) * anHour,
    };

    const wrong: string[] = [];
    const last = sampler.samples.filter((sample) => sample.phase === "last half");
    const asked = sampler.probes.filter((probe) => probe.phase === "last half" && probe.what === "predict");
    /** How much a series grows in an hour; complains when that is too much and is more than its own noise. */
    const hourly = (
      what: string,
      points: (readonly [number, number])[],
      most: number,
    ): { median: number | null; highest: number | null; an_hour: number } => {
      const growth = slopeOf(points) * HOUR_S;
      const values = points.map(([, value]) => value);
      if (growth > most)
        wrong.push(`${what} grows by ${growth.toFixed(1)} an hour; ${most.toFixed(0)} are taken for flat`);
      return { median: quantileOf(values, 0.5), highest: quantileOf(values, 1), an_hour: Number(growth.toFixed(2)) };
    };
    const roles = Object.fromEntries(
      ROLE_NAMES.map((role) => [
        role,
        {
          resident_mb: hourly(
            `${role}'s memory (MB)`,
            last.flatMap(({ seconds, residentMb }) =>
              residentMb[role] === undefined ? [] : [[seconds, residentMb[role]] as const],
            ),
            MOST_AN_HOUR.residentMb + Math.max(0, stateMbAnHour[role] ?? 0) * 2,
          ),
          handles: hourly(
            `${role}'s handles`,
            last.flatMap(({ seconds, handles }) =>
              handles[role] === undefined ? [] : [[seconds, handles[role]] as const],
            ),
            MOST_AN_HOUR.handles,
          ),
        },
      ]),
    );
    const lag = (name: "scoringLag" | "sinkLag"): ReturnType<typeof hourly> =>
      hourly(
        name,
        last.flatMap((sample) => (sample[name] === null ? [] : [[sample.seconds, sample[name]] as const])),
        MOST_AN_HOUR.lag,
      );
    const failed = asked.filter(({ answer: { status } }) => status !== 200 && status !== 202);
    if (failed.length > 0)
      wrong.push(
        `${failed.length} of ${asked.length} predictions over HTTP were answered ` +
          `${[...new Set(failed.map(({ answer }) => answer.status))].join(", ")}`,
      );
    const latencies = asked.map(({ answer }) => answer.ms);
    return {
      wrong,
      figures: {
        rate,
        samples: last.length,
        roles,
        scoring_lag: lag("scoringLag"),
        sink_lag: lag("sinkLag"),
        state_mb_an_hour: stateMbAnHour,
        latency_ms: {
          ...hourly(
            "latency (ms)",
            medians(asked.map(({ seconds, answer }) => [seconds, answer.ms] as const)),
            MOST_AN_HOUR.latencyMs,
          ),
          p50: quantileOf(latencies, 0.5),
          p99: quantileOf(latencies, 0.99),
          asked: asked.length,
        },
      },
    };
  },
});

/** The median of each minute: single slow answers are the machine's, not a trend. */
function medians(points: (readonly [number, number])[]): (readonly [number, number])[] {
  const minutes = new Map<number, number[]>();
  for (const [seconds, value] of points) {
    const minute = Math.floor(seconds / 60);
    minutes.set(minute, [...(minutes.get(minute) ?? []), value]);
  }
  return [...minutes].map(([minute, values]) => [minute * 60, quantileOf(values, 0.5) ?? 0] as const);
}
