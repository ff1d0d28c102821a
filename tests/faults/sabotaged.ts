/**
 * A role with one of its guarantees broken on purpose: `SABOTAGE=name node sabotaged.js ROLE`. Nothing in the role
 * knows of it: a method is replaced from outside, then the role's own main runs.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { TransactionalProducer } from "../../infra/kafka/transactional-producer.js";
import type { Standing, Tenure } from "../../pipelines/runtime/partition-consumer.js";
import { PartitionHistories } from "../../pipelines/scoring/history/partition-histories.js";
import { ScoringTenure } from "../../pipelines/scoring/scoring-pipeline.js";
import { TableBlocks } from "../../pipelines/sink/table-blocks.js";
import { methodsOf } from "./patching.js";
import { ASKED, WENT_ON } from "./sabotage.js";

/** How long the unsafe moment lasts, milliseconds: long enough for a fault to meet it soon. */
const UNSAFE_MS = 30;
const ASKED_EARLY_MS = 4_000;
/** A process whose timers stand still for this long was stopped. */
const STOPPED_MS = 3_000;
const TICK_MS = 100;

const SABOTAGES: Record<string, () => void> = {
  /** The offset is committed in a transaction of its own before the output is. */
  "offsets-before-produce": () => {
    const { begin, commit } = methodsOf(TransactionalProducer);
    const announced = new WeakMap<TransactionalProducer, Parameters<typeof begin>[0]>();
    TransactionalProducer.prototype.begin = function (partitions, offset) {
      announced.set(this, partitions);
      begin.call(this, [], offset);
    };
    TransactionalProducer.prototype.commit = async function (outputs, timestamp) {
      await commit.call(this, [], timestamp);
      await sleep(UNSAFE_MS);
      begin.call(this, announced.get(this) ?? [], null);
      await commit.call(this, outputs, timestamp);
    };
  },
  /** Each tenure has a transactional id of its own, so taking a partition over shuts nobody out. */
  "no-fence": () => {
    const open = TransactionalProducer.open.bind(TransactionalProducer);
    TransactionalProducer.open = (cluster, transactionalId, options) =>
      open(cluster, `${transactionalId}-${randomUUID()}`, options);
  },
  /** Where the former owner stood is asked before it is shut out. */
  "offset-before-init": () => {
    dieAfterWaking();
    const open = ScoringTenure.open.bind(ScoringTenure);
    ScoringTenure.open = async (deps, tenure) => {
      const { committed, moved } = await askInPublic(tenure);
      const opened = await open(deps, { ...tenure, committed: () => Promise.resolve(committed) });
      if (moved) tellFirstBatch(opened.handler);
      return opened;
    };
  },
  /** Nothing is broken: the same, but it is asked when it should be. */
  "offset-after-init": () => {
    dieAfterWaking();
    const open = ScoringTenure.open.bind(ScoringTenure);
    ScoringTenure.open = (deps, tenure) => {
      const committed = async (): Promise<Standing> => {
        await askInPublic(tenure);
        return tenure.committed();
      };
      return open(deps, { ...tenure, committed });
    };
  },
  /** What a batch did to the history stays, though its Kafka transaction was given up. */
  "keep-aborted": () => {
    const { release } = methodsOf(PartitionHistories);
    PartitionHistories.prototype.release = function (history) {
      history.committed(history.offset);
      release.call(this, history);
    };
  },
  /** The label with the highest offset counts, whatever its partition. */
  "labels-by-offset": () => {
    const { add } = methodsOf(TableBlocks);
    TableBlocks.prototype.add = function (progress, records, index, rows) {
      // The version is the last column of the row that was written.
      if (this.table === "labels" && rows === 1)
        this.rows.bytes.writeBigUInt64LE(BigInt(records.offset[index]), this.rows.length - 8);
      add.call(this, progress, records, index, rows);
    };
  },
  /** Offsets count as stored as soon as their records are in a block. */
  "commit-before-clickhouse": () => {
    const { add, addEnd } = methodsOf(TableBlocks);
    TableBlocks.prototype.add = function (progress, records, index, rows) {
      add.call(this, progress, records, index, rows);
      progress.advance(records.offset[index] + 1);
    };
    TableBlocks.prototype.addEnd = function (progress, end) {
      addEnd.call(this, progress, end);
      progress.advance(end);
    };
  },
};

/**
 * Asks where the group stands and says so, and gives the former owner time to commit once more. @returns what was
 * asked, and whether that happened
 */
async function askInPublic(tenure: Tenure): Promise<{ committed: Standing; moved: boolean }> {
  const committed = await tenure.committed();
  process.stderr.write(`${ASKED}\n`);
  for (const until = Date.now() + ASKED_EARLY_MS; Date.now() < until; await sleep(UNSAFE_MS)) {
    if ((await tenure.committed()).offset !== committed.offset) return { committed, moved: true };
  }
  return { committed, moved: false };
}

/** Says when the first batch has been committed. */
function tellFirstBatch(handler: ScoringTenure): void {
  const processBatch = handler.process.bind(handler);
  handler.process = async (records) => {
    await processBatch(records);
    process.stderr.write(`${WENT_ON}\n`);
    handler.process = processBatch;
  };
}

/**
 * A worker that was stopped and wakes is gone once it has committed what it had in hand. It dies by itself: anybody who
 * watches from outside is too late to keep it from joining the group again.
 */
function dieAfterWaking(): void {
  const { commit } = methodsOf(TransactionalProducer);
  const wasStopped = noticeStops();
  TransactionalProducer.prototype.commit = async function (outputs, timestamp) {
    await commit.call(this, outputs, timestamp);
    if (wasStopped()) process.kill(process.pid, "SIGKILL");
  };
}

/** @returns whether this process was ever stopped */
function noticeStops(): () => boolean {
  let last = Date.now();
  let stopped = false;
  const look = (): boolean => {
    stopped ||= Date.now() - last > STOPPED_MS;
    last = Date.now();
    return stopped;
  };
  setInterval(look, TICK_MS).unref();
  return look;
}

const sabotage = SABOTAGES[process.env["SABOTAGE"] ?? ""] as (() => void) | undefined;
if (sabotage === undefined) throw new Error(`there is no sabotage ${process.env["SABOTAGE"]}`);
sabotage();
await import(`../../pipelines/${process.argv[2]}/main.js`);
