/**
 * Three times as many transactions as a worker can score, for some minutes, and people who ask over HTTP meanwhile:
 * memory bounded, lag told, every request answered in time, and all of it made up for afterwards. `npm run
 * test:overload -- --help`.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { UsageError } from "../../schemas/errors.js";
import { runEndurance } from "./command.js";
import { keptStateMb } from "./kept-state.js";
import { answersOf } from "./sampler.js";
import { ROLE_NAMES, type Role } from "../../infra/roles.js";
import { heavy } from "./system.js";

/** What a role may take beyond what it keeps by design: batches in hand, queues, garbage. */
const MOST_GROWN_MB = 250;
/** The wait that a request asks for, by default, and what an answer may take beyond it. */
const ANSWERED_WITHIN_MS = 2_000 + 3_000;
/** Transactions by which the capacity is measured, and how fast they come. */
const CALIBRATION = 20_000;
const CALIBRATION_PER_SECOND = 5_000;

await runEndurance({
  name: "overload",
  about: "Transactions come in several times as fast as they can be scored; afterwards everything is caught up with.",
  options: {
    minutes: { default: 5, what: "how long the overload lasts" },
    times: { default: 3, what: "how many times the capacity comes in" },
    layers: {
      default: 600,
      what: "of the champion, a dense network that is slow on purpose: what the capacity is set by",
    },
    calibrate: { default: 20, what: "most seconds in which the capacity is measured" },
  },
  champion: ({ layers }) => heavy(layers),
  sampling: () => ({ everyMs: 1_000, probesPerSecond: 20 }),
  run: async ({ options: { minutes, times, calibrate }, under, load, sampler, phase, until, say }) => {
    const wrong: string[] = [];
    // A worker in a large batch doesn't tell: it is asked again.
    const scored = async (): Promise<number> =>
      (await under.metrics("scoring"))?.get("fraudstream_scoring_transactions_total") ?? scored();
    await load.pace(100);
    await phase("steady", 10);
    const steady = sampler.last?.residentMb ?? {};
    const keptBefore = await keptStateMb(under);

    /** What roles keep only grows meanwhile: nothing is old enough to be forgotten. */
    const checkMemory = async (): Promise<{ peak: Partial<Record<Role, number>>; kept: typeof keptBefore }> => {
      const kept = await keptStateMb(under);
      const byDesign: Partial<Record<Role, number>> = {
        scoring: kept.scoring - keptBefore.scoring,
        merchants: kept.merchants - keptBefore.merchants,
      };
      const peak: Partial<Record<Role, number>> = {};
      for (const role of ROLE_NAMES) {
        const most = Math.max(...sampler.samples.map(({ residentMb }) => residentMb[role] ?? 0));
        const allowed = (steady[role] ?? 0) + (byDesign[role] ?? 0) + MOST_GROWN_MB;
        if (most > allowed)
          wrong.push(
            `${role} took ${most} MB by the end of "${sampler.phase}"; ${steady[role]} before, and what it ` +
              `keeps allows ${allowed.toFixed(0)}`,
          );
        peak[role] = most;
      }
      return { peak, kept };
    };

    // As much as it can: a backlog that lasts, and nothing that comes in meanwhile.
    const filled = load.acknowledged + CALIBRATION;
    await load.pace(CALIBRATION_PER_SECOND);
    for (sampler.phase = "calibration, filling"; load.acknowledged < filled;) await sleep(50);
    await load.pace(1);
    const filledTo = sampler.last?.scoringLag ?? CALIBRATION;
    if (filledTo < CALIBRATION / 2)
      throw new UsageError(
        "bad_option",
        `scoring keeps up with ${CALIBRATION_PER_SECOND} transactions a second, so its capacity can't be ` +
          "measured: give --layers more",
      );
    const [before, from] = [await scored(), sampler.seconds];
    await until(
      "calibration",
      ({ scoringLag }) => sampler.seconds - from > calibrate || (scoringLag ?? CALIBRATION) < CALIBRATION / 10,
      calibrate + 10,
    );
    const capacity = ((await scored()) - before) / (sampler.seconds - from);
    say(`capacity: ${capacity.toFixed(0)} transactions a second`);
    await until("calibration, draining", ({ scoringLag }) => scoringLag !== null && scoringLag < 100, 1_200);

    await load.pace(capacity * times);
    await phase("overload", minutes * 60);
    await checkMemory();
    const most = Math.max(...sampler.samples.map(({ scoringLag }) => scoringLag ?? 0));
    const backlog = sampler.samples.findLast(({ scoringLag }) => scoringLag !== null)?.scoringLag ?? 0;
    await load.pace(capacity / 10);
    // A tenth goes on coming in: nine tenths of the capacity are left for the backlog.
    const caughtUp = await until(
      "recovery",
      ({ scoringLag, waiting }) => scoringLag !== null && scoringLag < capacity && waiting < capacity,
      backlog / (capacity / 2) + 120,
    );
    if (caughtUp === null) wrong.push(`a backlog of ${backlog} was not caught up with`);
    await sleep(2_000);
    const probesBefore = sampler.probes.length;
    await phase("after", 30);
    const { peak, kept } = await checkMemory();

    const of = (name: string): typeof sampler.probes =>
      sampler.probes.filter((probe) => probe.phase === name && probe.what === "predict");
    const during = answersOf(of("overload"));
    for (const status of Object.keys(during.statuses))
      if (!["200", "202", "503"].includes(status)) wrong.push(`requests were answered ${status} under overload`);
    if (!("503" in during.statuses)) wrong.push("no request was refused under overload");
    const slowest = during.max_ms ?? 0;
    if (slowest > ANSWERED_WITHIN_MS) wrong.push(`a request took ${slowest.toFixed(0)} ms under overload`);
    const notScored = sampler.probes
      .slice(probesBefore)
      .filter(({ what, answer }) => what === "predict" && answer.status !== 200);
    if (notScored.length > 0)
      wrong.push(`${notScored.length} requests were not answered with a score after the recovery`);
    return {
      wrong,
      figures: {
        capacity: Math.round(capacity),
        input: Math.round(capacity * times),
        backlog,
        most_lag: most,
        recovery_seconds: caughtUp === null ? null : Math.round(caughtUp),
        resident_mb: { steady, peak },
        kept_mb: { before: keptBefore, after: kept },
        http: Object.fromEntries(
          ["steady", "overload", "recovery", "after"].map((name) => [name, answersOf(of(name))]),
        ),
      },
    };
  },
});
