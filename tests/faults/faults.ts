import { setTimeout as sleep } from "node:timers/promises";
import { PartitionReader } from "../../infra/kafka/partition-reader.js";
import type { WorkerHeartbeat } from "../../schemas/generated.js";
import { eventually } from "../support/eventually.js";
import type { RoleProcess } from "../support/workers.js";
import type { TestSystem } from "../support/workers-system.js";

/** What a scenario does to the roles while transactions stream. Each returns what it did, for the report. */

const REBALANCE_PATIENCE_MS = 180_000;

/** Follows the workers' heartbeats. */
class Heartbeats {
  readonly #system: TestSystem;
  readonly #last = new Map<number, WorkerHeartbeat>();
  #next = 0;

  constructor(system: TestSystem) {
    this.#system = system;
  }

  /** The partitions that a worker has reported since `since`; empty when it hasn't reported. */
  async ownedBy(worker: RoleProcess, since = 0): Promise<number[]> {
    const { beats, next } = await this.#system.heartbeats(this.#next);
    this.#next = next;
    for (const beat of beats) this.#last.set(Number(/-(\d+)-[^-]*$/.exec(beat.worker)?.[1]), beat);
    const beat = this.#last.get(worker.pid);
    return beat === undefined || beat.at < since ? [] : beat.partitions.map(({ partition }) => partition);
  }
}

/** Tells whether a predictions' partition holds records whose transaction is still open. */
class OpenTransactions {
  readonly #readers: PartitionReader[];

  constructor({ cluster, topics: { predictions } }: TestSystem) {
    this.#readers = Array.from(
      { length: predictions.partitions },
      (_, partition) => new PartitionReader(cluster, predictions.name, partition),
    );
  }

  async isOpen(partition: number): Promise<boolean> {
    const written = await this.#readers[partition].writtenEnd();
    return (await this.#readers[partition].endOffset()) < written;
  }

  async close(): Promise<void> {
    await Promise.all(this.#readers.map((reader) => reader.close()));
  }
}

const MOST_TRIES = 400;

/**
 * Waits until a worker owns partitions, then stops it with SIGSTOP at random moments until one of them lies within a
 * Kafka transaction, its records written and its end not: the moment at which most can go wrong.
 *
 * @returns whether it was caught like that; stopped it is in any case
 */
async function stopInTransaction(
  heartbeats: Heartbeats,
  transactions: OpenTransactions,
  { worker, since, random, tries }: { worker: RoleProcess; since: number; random: () => number; tries: number },
): Promise<boolean> {
  const owned = await eventually(
    `worker ${worker.pid} owns partitions`,
    async () => {
      const partitions = await heartbeats.ownedBy(worker, since);
      return partitions.length > 0 && partitions;
    },
    REBALANCE_PATIENCE_MS,
  );
  for (let tried = 0; ; tried++) {
    await sleep(10 + random() * 40);
    worker.send("SIGSTOP");
    await sleep(20); // what it has sent is answered meanwhile
    for (const partition of owned) if (await transactions.isOpen(partition)) return true;
    if (tried === tries) return false;
    worker.send("SIGCONT");
  }
}

export interface KillReport {
  kills: number;
  inTransaction: number;
}

/**
 * Kills one of two workers with -9, in turn, each time while it scores, and starts it again at once.
 *
 * @param options.afterSnapshot whether a worker is to write a snapshot first, so that the next one finds it
 */
export async function killWorkers(
  system: TestSystem,
  options: { kills: number; random: () => number; afterSnapshot?: boolean; progress?: (line: string) => void },
): Promise<KillReport> {
  const { kills, random, afterSnapshot = false, progress } = options;
  const report: KillReport = { kills, inTransaction: 0 };
  const heartbeats = new Heartbeats(system);
  const transactions = new OpenTransactions(system);
  const workers = [system.startWorker(), system.startWorker()];
  try {
    for (let kill = 0; kill < kills; kill++) {
      const turn = kill % workers.length;
      const victim = workers[turn];
      // Every third is killed wherever it is.
      const tries = kill % 3 === 2 ? 0 : MOST_TRIES;
      if (afterSnapshot) await victim.logged("snapshot written");
      if (await stopInTransaction(heartbeats, transactions, { worker: victim, since: 0, random, tries }))
        report.inTransaction += 1;
      await victim.kill();
      workers[turn] = system.startWorker();
      progress?.(`killed worker ${victim.pid} (${kill + 1} of ${kills})`);
    }
    return report;
  } finally {
    await transactions.close();
  }
}

/** `fenced`: how often a worker that went on found its partitions gone when it wrote. */
export interface StopReport {
  stops: number;
  inTransaction: number;
  fenced: number;
}

/** Stops one of two workers with SIGSTOP until the other has all its partitions, then lets it go on, in turn. */
export async function stopWorkers(
  system: TestSystem,
  options: { stops: number; random: () => number; progress?: (line: string) => void },
): Promise<StopReport> {
  const { stops, random, progress } = options;
  const report: StopReport = { stops, inTransaction: 0, fenced: 0 };
  const heartbeats = new Heartbeats(system);
  const transactions = new OpenTransactions(system);
  const workers = [system.startWorker(), system.startWorker()];
  try {
    for (let stop = 0, since = 0; stop < stops; stop++) {
      const victim = workers[stop % 2],
        other = workers[(stop + 1) % 2];
      if (await stopInTransaction(heartbeats, transactions, { worker: victim, since, random, tries: MOST_TRIES }))
        report.inTransaction += 1;
      await eventually(
        "the other worker owns every partition",
        async () => (await heartbeats.ownedBy(other)).length === system.partitions,
        REBALANCE_PATIENCE_MS,
      );
      await sleep(random() * 2_000);
      since = Date.now();
      victim.send("SIGCONT");
      progress?.(`worker ${victim.pid} was stopped until its partitions had moved (${stop + 1} of ${stops})`);
      const shares = async (worker: RoleProcess): Promise<boolean> => {
        const { length } = await heartbeats.ownedBy(worker, since);
        return length > 0 && length < system.partitions;
      };
      for (const worker of workers)
        await eventually(
          `worker ${worker.pid} owns some of the partitions again`,
          () => shares(worker),
          REBALANCE_PATIENCE_MS,
        );
    }
    report.fenced = workers.flatMap(({ log }) => log).filter(({ msg }) => msg.startsWith("fenced")).length;
    return report;
  } finally {
    await transactions.close();
  }
}
