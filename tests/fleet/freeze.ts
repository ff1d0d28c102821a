import { setTimeout as sleep } from "node:timers/promises";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { allTopics } from "../../schemas/topics.js";
import type { Fleet } from "./fleet.js";
import type { Finding } from "./finding.js";
import { gapsOf, PredictionWatch, Traffic } from "./traffic.js";
import { electedAfter, RoleWatch } from "./watch-roles.js";

const STEADY_MS = 10_000;
const PER_TICK = 2;
/** After a broker is lost: what the cluster needs itself, and this long for us. */
const OURS_MS = 10_000;
const CAUGHT_UP_WITHIN_MS = 120_000;

/**
 * Freezes one broker under traffic, thaws it, and tells how long each partition had no acknowledgement and no
 * prediction.
 */
export async function freeze(
  fleet: Fleet,
  broker: number,
  seconds: number,
  { say, signal }: { say: (line: string) => void; signal: AbortSignal },
): Promise<Finding> {
  const { system, brokers } = fleet;
  const traffic = await Traffic.start(system, PER_TICK);
  const watch = new PredictionWatch(system);
  const roles = new RoleWatch(fleet);
  const others = new KafkaCluster(
    { brokers: brokers.addresses.filter((address) => address !== brokers.addressOf(broker)), ssl: false, sasl: null },
    "fleet-look",
  );
  try {
    await sleep(STEADY_MS, undefined, { signal });
    const had = await jobsOf(fleet, others, broker);
    say(`broker ${broker} freezes: ${JSON.stringify(had)}`);
    const from = Date.now();
    brokers.freeze(broker);
    const topics = allTopics(system.topics).map(({ name }) => name);
    const elected = await electedAfter(others, topics, broker, from, seconds * 1_000);
    say(`the cluster has leaders without it after ${elected ?? "?"} ms`);
    await sleep(Math.max(0, from + seconds * 1_000 - Date.now()), undefined, { signal });
    const to = Date.now();
    brokers.thaw(broker);
    await sleep(STEADY_MS, undefined, { signal });
    await traffic.stop();
    await fleet
      .until(
        "everything is predicted",
        async () => Promise.resolve(traffic.ids.every((id) => watch.predicted.has(id))),
        CAUGHT_UP_WITHIN_MS,
      )
      .catch(() => {});
    const thawed = Date.now();
    await Promise.all([watch.stop(), roles.stop()]);
    const predictions = gapsOf(watch.seen, from, to);
    const afterThaw = gapsOf(watch.seen, to, to + STEADY_MS);
    const missing = traffic.ids.filter((id) => !watch.predicted.has(id)).length;
    const doubled = [...watch.predicted.values()].filter((count) => count > 1).length;
    const readiness = readinessSince(roles, from);
    const longest = Math.max(...predictions);
    return {
      scenario: `broker ${broker} frozen for ${seconds} s`,
      figures: {
        had,
        elected_ms: elected,
        acknowledged_gap_ms: gapsOf(traffic.acknowledged, from, to),
        prediction_gap_ms: predictions,
        prediction_gap_after_thaw_ms: afterThaw,
        http_frozen: roles.answers(from, to),
        http_thawed: roles.answers(to, thawed),
        readiness,
        published: traffic.ids.length,
      },
      wrong: [
        ...(missing > 0 ? [`${missing} acknowledged transactions without a prediction`] : []),
        ...(doubled > 0 ? [`${doubled} transactions with two predictions`] : []),
        ...(longest > (elected ?? 0) + OURS_MS
          ? [`no prediction in a partition for ${longest} ms, of which the cluster needed ${elected}`]
          : []),
        ...fleet.members.flatMap(({ slot }) => slot.fell),
      ],
    };
  } finally {
    await others.close();
  }
}

/** How the readiness of each role changed, and when, in words. */
function readinessSince({ readiness }: RoleWatch, from: number): Record<string, string[]> {
  return Object.fromEntries(
    [...readiness].map(([name, changes]) => {
      const since = changes.filter(({ at }) => at >= from);
      return [
        name,
        since.map(
          ({ at, status, conditions }) => `${((at - from) / 1_000).toFixed(1)} s: ${[status, ...conditions].join(" ")}`,
        ),
      ];
    }),
  );
}

/** What a broker does for this system. */
async function jobsOf(
  { system, brokers }: Fleet,
  cluster: KafkaCluster,
  broker: number,
): Promise<Record<string, unknown>> {
  const is = ({ port }: { port: number }): boolean => brokers.addressOf(broker).endsWith(`:${port}`);
  const { transactions, predictions } = system.topics;
  const leads = async (topic: string, partitions: number): Promise<number[]> => {
    const of = await Promise.all(
      Array.from({ length: partitions }, async (_, partition) => is(await cluster.leaderOf(topic, partition, true))),
    );
    return of.flatMap((leader, partition) => (leader ? [partition] : []));
  };
  const groups = await Promise.all(
    ["scoring", "sink", "merchants"].map(async (role) =>
      is(await cluster.coordinatorOf("group", `${system.prefix}${role}`)) ? [role] : [],
    ),
  );
  return {
    leads_transactions: await leads(transactions.name, transactions.partitions),
    leads_predictions: await leads(predictions.name, predictions.partitions),
    coordinates: groups.flat(),
  };
}
