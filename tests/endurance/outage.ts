/**
 * ClickHouse away, then Kafka away, under a paced load: scoring goes on, nothing is lost, and what has waited is caught
 * up with in the time that it takes at twice the rate. `npm run test:outage -- --help`.
 */
import { runEndurance } from "./command.js";
import { ROLE_NAMES, type Role } from "../../infra/roles.js";

import { quantileOf, tallyOf } from "./slopes.js";
import { answersOf, type Sample, type Sampler } from "./sampler.js";

/** A role that only waits grows by less than this, MB: what V8 takes before it collects. */
const FLAT_MB = 100;
/** A lag that is only what is under way, in seconds of the load; the sink has three to five records a transaction. */
const UNDER_WAY_SECONDS = 5;
/** What starting an engine and noticing it takes beyond the backlog itself. */
const NOTICING_SECONDS = 20;

await runEndurance({
  name: "outage",
  about:
    "ClickHouse is stopped for some minutes, then Kafka, with every role running and transactions coming in " +
    "all the while.",
  options: {
    minutes: { default: 10, what: "how long ClickHouse is away" },
    "kafka-minutes": { default: 2, what: "how long Kafka is away" },
    rate: { default: 500, what: "transactions a second" },
    steady: { default: 45, what: "seconds of load before, between and after" },
  },
  sampling: () => ({ everyMs: 1_000, probesPerSecond: 2 }),
  run: async ({
    options: { minutes, "kafka-minutes": kafkaMinutes, rate, steady },
    engines,
    load,
    sampler,
    phase,
    until,
  }) => {
    const wrong: string[] = [];
    const underWay = rate * UNDER_WAY_SECONDS;
    await load.pace(rate);
    await phase("steady", steady);

    await engines.clickhouse.stop();
    await phase("ClickHouse away", minutes * 60);
    await engines.clickhouse.start();
    const clickhousePatience = (minutes * 60) / 2 + NOTICING_SECONDS;
    const storedAgain = await until(
      "ClickHouse back",
      ({ sinkLag }) => sinkLag !== null && sinkLag < 5 * underWay,
      clickhousePatience * 3,
    );
    if (storedAgain === null || storedAgain > clickhousePatience)
      wrong.push(`the sink caught up in ${storedAgain} s; twice the rate takes ${clickhousePatience}`);
    await phase("between", steady);

    await engines.kafka.stop();
    await phase("Kafka away", kafkaMinutes * 60);
    await engines.kafka.start();
    const kafkaPatience = (kafkaMinutes * 60) / 2 + NOTICING_SECONDS;
    const scoredAgain = await until(
      "Kafka back",
      ({ scoringLag, sinkLag, waiting }) =>
        waiting < underWay &&
        scoringLag !== null &&
        scoringLag < underWay &&
        sinkLag !== null &&
        sinkLag < 5 * underWay,
      kafkaPatience * 3,
    );
    if (scoredAgain === null || scoredAgain > kafkaPatience)
      wrong.push(`scoring and sink caught up in ${scoredAgain} s; twice the rate takes ${kafkaPatience}`);
    await phase("after", steady);

    const away = sampler.samples.filter((sample) => sample.phase === "ClickHouse away");
    // The middle of the last half: a single look may fall into somebody else's busy second.
    const scoringLagMeanwhile =
      quantileOf(
        away.slice(away.length / 2).flatMap(({ scoringLag }) => scoringLag ?? []),
        0.5,
      ) ?? Infinity;
    if (scoringLagMeanwhile > underWay)
      wrong.push(`scoring fell behind by ${scoringLagMeanwhile} while ClickHouse was away`);
    for (const name of ["ClickHouse away", "Kafka away"]) wrong.push(...grown(sampler, name));
    return {
      wrong,
      figures: {
        caught_up_seconds: { clickhouse: storedAgain, kafka: scoredAgain },
        scoring_lag_while_clickhouse_away: scoringLagMeanwhile,
        phases: Object.fromEntries(
          [...new Set(sampler.samples.map((sample) => sample.phase))].map((name) => [name, figuresOf(sampler, name)]),
        ),
      },
    };
  },
});

/** Roles whose memory went on growing while an engine was away: its last quarter against its second. */
function grown({ samples }: Sampler, name: string): string[] {
  const of = samples.filter(({ phase }) => phase === name);
  const quarter = Math.floor(of.length / 4);
  return ROLE_NAMES.flatMap((role) => {
    const median = (part: Sample[]): number =>
      quantileOf(
        part.flatMap(({ residentMb }) => residentMb[role] ?? []),
        0.5,
      ) ?? 0;
    const growth = median(of.slice(-quarter)) - median(of.slice(quarter, 2 * quarter));
    return growth > FLAT_MB ? [`${role} grew by ${growth} MB while ${name.replace(" away", "")} was away`] : [];
  });
}

/** What a phase was like: readiness, memory at its end, lag at its highest, and what the API answered. */
function figuresOf({ samples, probes }: Sampler, name: string): Record<string, unknown> {
  const of = samples.filter(({ phase }) => phase === name);
  const last = of.at(-1);
  const answers = (what: string): ReturnType<typeof answersOf> =>
    answersOf(probes.filter((probe) => probe.phase === name && probe.what === what));
  return {
    seconds: of.length < 2 ? 0 : (last?.seconds ?? 0) - of[0].seconds,
    ready: Object.fromEntries(ROLE_NAMES.map((role: Role) => [role, tallyOf(of.map(({ ready }) => ready[role] ?? 0))])),
    resident_mb: { first: of[0]?.residentMb, last: last?.residentMb },
    handles: last?.handles,
    most_scoring_lag: Math.max(0, ...of.map(({ scoringLag }) => scoringLag ?? 0)),
    most_sink_lag: Math.max(0, ...of.map(({ sinkLag }) => sinkLag ?? 0)),
    most_waiting: Math.max(0, ...of.map(({ waiting }) => waiting)),
    metrics_silent: of.filter(({ sinkLag }) => sinkLag === null).length,
    predict: answers("predict"),
    look_up: answers("look up"),
  };
}
