import { setTimeout as sleep } from "node:timers/promises";
import { call, type KafkaCluster } from "../../infra/kafka/cluster.js";
import { metadataV12 } from "../../infra/kafka/wire.js";
import { cardIn } from "../support/transactions.js";
import { PARTITIONS, type Fleet } from "./fleet.js";

const READY_EVERY_MS = 500;
const ASK_EVERY_MS = 500;
const LOOK_EVERY_MS = 250;
const WAIT_MS = 3_000;
const GIVEN_UP_MS = 30_000;

interface Change {
  at: number;
  status: number;
  conditions: string[];
}
interface Asked {
  at: number;
  ms: number;
  status: number;
}

/** What roles say about themselves, and how the API answers payments, while something happens to the brokers. */
export class RoleWatch {
  /** Of each role: how its readiness changed. */
  readonly readiness = new Map<string, Change[]>();
  readonly asked: Asked[] = [];
  readonly #running: Promise<void>[];
  #stopping = false;

  constructor(fleet: Fleet) {
    this.#running = [...fleet.members.map(({ slot, port }) => this.#look(fleet, slot.name, port)), this.#ask(fleet)];
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  /** How POST /predictions was answered between two moments. */
  answers(
    from: number,
    to: number,
  ): {
    count: number;
    scored: number;
    statuses: Record<string, number>;
    slowestMs: number;
    longestWithoutScoreMs: number;
  } {
    const within = this.asked.filter(({ at }) => at >= from && at < to);
    const statuses: Record<string, number> = {};
    for (const { status } of within) statuses[status] = (statuses[status] ?? 0) + 1;
    const scored = within
      .filter(({ status }) => status === 200)
      .map(({ at, ms }) => at + ms)
      .sort((a, b) => a - b);
    const moments = [from, ...scored, Math.max(to, scored.at(-1) ?? to)];
    return {
      count: within.length,
      scored: scored.length,
      statuses,
      slowestMs: Math.round(Math.max(0, ...within.map(({ ms }) => ms))),
      longestWithoutScoreMs: Math.round(Math.max(...moments.slice(1).map((moment, i) => moment - moments[i]))),
    };
  }

  async #look(fleet: Fleet, name: string, port: number): Promise<void> {
    const changes: Change[] = [];
    this.readiness.set(name, changes);
    while (!this.#stopping) {
      const { status, text } = await fleet.client.ask(port, "GET", "/health/ready", { timeoutMs: 5_000 });
      const conditions =
        status === 0
          ? []
          : [...new Set((JSON.parse(text) as { conditions: { code: string }[] }).conditions.map(({ code }) => code))];
      const last = changes.at(-1);
      if (last?.status !== status || last.conditions.join() !== conditions.join())
        changes.push({ at: Date.now(), status, conditions });
      await sleep(READY_EVERY_MS);
    }
  }

  /** One payment every half second, each with a card of another partition, whatever becomes of those before. */
  async #ask(fleet: Fleet): Promise<void> {
    const under = new Set<Promise<void>>();
    const { port } = fleet.member("api-1");
    for (let n = 0; !this.#stopping; n++) {
      const at = Date.now();
      const body = {
        transaction_id: `h${at}-${n}`,
        card_id: cardIn(n % PARTITIONS, PARTITIONS, n),
        merchant_id: "m1",
        amount: 10,
        currency: "EUR",
        event_time: new Date(at).toISOString(),
      };
      const asking = fleet.client
        .ask(port, "POST", `/api/v1/predictions?wait_ms=${WAIT_MS}`, { body, timeoutMs: GIVEN_UP_MS })
        .then(({ status, ms }) => void this.asked.push({ at, ms, status }));
      under.add(asking);
      void asking.finally(() => under.delete(asking));
      await sleep(ASK_EVERY_MS);
    }
    await Promise.all(under);
  }
}

/**
 * How long the cluster itself takes to do without a broker: until no partition of these topics, and none of Kafka's
 * own, is led by it, as the others tell. @returns milliseconds since `from`; null: it never came to that
 */
export async function electedAfter(
  cluster: KafkaCluster,
  topics: readonly string[],
  lost: number,
  from: number,
  patienceMs: number,
): Promise<number | null> {
  while (Date.now() - from < patienceMs) {
    try {
      const connection = await cluster.open(await cluster.anyBroker());
      try {
        const { topics: found } = await call(
          connection,
          metadataV12.api,
          [[...topics, "__consumer_offsets", "__transaction_state"], false, false],
          "looking at leaders",
        );
        if (found.every(({ partitions }) => partitions.every(({ leaderId }) => leaderId >= 0 && leaderId !== lost)))
          return Date.now() - from;
      } finally {
        await connection.close();
      }
    } catch {
      // Brokers that look for a controller don't answer.
    }
    await sleep(LOOK_EVERY_MS);
  }
  return null;
}
