/**
 * A role with one of its guarantees broken on purpose: `SABOTAGE=name node sabotaged.js ROLE`. Nothing in the role knows of
 * it: a method is replaced from outside, then the role's own main runs.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { TransactionalProducer } from "../../infra/kafka/transactional-producer.js";
import { PartitionHistories } from "../../pipelines/scoring/history/partition-histories.js";
import { ScoringTenure } from "../../pipelines/scoring/scoring-pipeline.js";
import { TableBlocks } from "../../pipelines/sink/table-blocks.js";
import { methodsOf } from "./patching.js";
import { FETCHED_EARLY } from "./sabotage.js";

/** How long the unsafe moment lasts, milliseconds: long enough for a fault to meet it soon. */
const UNSAFE_MS = 30;
const FETCHED_EARLY_MS = 4_000;
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
    TransactionalProducer.open = (cluster, transactionalId, options) => open(cluster, `${transactionalId}-${randomUUID()}`, options);
  },
  /**
   * Where the former owner stood is asked before it is shut out. That one, woken, is gone once it has committed what it had in
   * hand: it dies by itself, since anybody who watches it from outside is too late to keep it from joining the group again.
   */
  "offset-before-init": () => {
    const { commit } = methodsOf(TransactionalProducer);
    const wasStopped = noticeStops();
    TransactionalProducer.prototype.commit = async function (outputs, timestamp) {
      await commit.call(this, outputs, timestamp);
      if (wasStopped()) process.kill(process.pid, "SIGKILL");
    };
    const open = ScoringTenure.open.bind(ScoringTenure);
    ScoringTenure.open = async (deps, tenure) => {
      const committed = await tenure.committed();
      process.stderr.write(`${FETCHED_EARLY}\n`);
      // Until the former owner has come that far: it isn't shut out yet.
      for (const until = Date.now() + FETCHED_EARLY_MS; Date.now() < until && (await tenure.committed()) === committed; ) await sleep(UNSAFE_MS);
      return open(deps, { ...tenure, committed: () => Promise.resolve(committed) });
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
