import { RETRY, retry } from "../async/retry.js";
import { REPLICATED_WITHIN_MS } from "./broker-connection.js";
import { call, type BrokerAddress, type KafkaCluster } from "./cluster.js";
import { ConnectionsByBroker, addressKey } from "./connections-by-broker.js";
import { KafkaError, protocolError } from "./errors.js";
import { produce, type PartitionBatch } from "./produce.js";
import type { PartitionOutput } from "./partition-output.js";
import { endTxnV5, hasTransactionVersion2, txnOffsetCommitV5, type ProducerIdentity } from "./transaction-protocol.js";
import { addOffsetsToTxnV3, addPartitionsToTxnV3, endTxnV3, initProducerIdV4, txnOffsetCommitV3 } from "./wire.js";

/** The offset up to which a group has consumed a partition. */
export interface ConsumedOffset {
  group: string;
  topic: string;
  partition: number;
  offset: number;
  /** Committed with the offset. */ metadata?: string;
}

export interface TransactionalProducerOptions {
  /** The broker aborts a transaction that is open for longer than this, milliseconds. */
  transactionTimeoutMs?: number;
  /** How long passing trouble is waited out, milliseconds. */
  patienceMs?: number;
}

/**
 * The producer of one transactional id: output and consumed offsets are committed in one Kafka transaction, or not at
 * all. Opening it fences whoever held the id before. After any error of `begin`, `commit` or `abort` it must be
 * discarded: the outcome may be unknown, and only opening the id again settles it. One transaction at a time.
 */
export class TransactionalProducer {
  readonly transactionalId: string;
  readonly #cluster: KafkaCluster;
  readonly #patienceMs: number;
  /** If the cluster has transactions of the second version, each transaction has another epoch. */
  #identity: ProducerIdentity;
  readonly #version2: boolean;
  /** This producer's own connections, by address: to the coordinators and the leaders. */
  readonly #connections: ConnectionsByBroker;
  readonly #coordinator: BrokerAddress;
  readonly #sequences = new Map<string, number>();
  /** Partitions included in the transaction under way; null: none is under way. */
  #partitions: Set<string> | null = null;
  #prepared: Promise<void> | null = null;
  /**
   * Whether the broker may know of the transaction under way: in the second version a transaction in which nothing is
   * written never begins.
   */
  #begun = false;
  #groupCoordinatorAddress: BrokerAddress | null = null;

  private constructor(
    cluster: KafkaCluster,
    transactionalId: string,
    patienceMs: number,
    coordinator: BrokerAddress,
    connections: ConnectionsByBroker,
    identity: ProducerIdentity,
    version2: boolean,
  ) {
    this.#cluster = cluster;
    this.transactionalId = transactionalId;
    this.#patienceMs = patienceMs;
    this.#coordinator = coordinator;
    this.#connections = connections;
    this.#identity = identity;
    this.#version2 = version2;
  }

  /** Takes over the transactional id: fences its former holder, and aborts or completes what that one left open. */
  static async open(
    cluster: KafkaCluster,
    transactionalId: string,
    options: TransactionalProducerOptions = {},
  ): Promise<TransactionalProducer> {
    const { transactionTimeoutMs = 60_000, patienceMs = RETRY.kafkaRequest.forMs } = options;
    return retry(
      async () => {
        const coordinator = await cluster.coordinatorOf("transaction", transactionalId);
        const connections = new ConnectionsByBroker(cluster);
        try {
          const connection = await connections.to(coordinator);
          const { producerId, producerEpoch } = await call(
            connection,
            initProducerIdV4.api,
            [transactionalId, transactionTimeoutMs, -1n, -1],
            `taking over ${transactionalId}`,
            REPLICATED_WITHIN_MS,
          );
          return new TransactionalProducer(
            cluster,
            transactionalId,
            patienceMs,
            coordinator,
            connections,
            { producerId, producerEpoch },
            await hasTransactionVersion2(connection),
          );
        } catch (error) {
          await connections.close();
          throw error;
        }
      },
      { ...RETRY.kafkaRequest, forMs: patienceMs },
    );
  }

  /**
   * Starts a transaction: announces the partitions that it will write to and the offset that it commits, if any.
   * Returns at once, so that this runs while the output is being made; `commit` waits for it and throws its error.
   */
  begin(partitions: readonly { topic: string; partition: number }[], offset: ConsumedOffset | null): void {
    if (this.#partitions !== null)
      throw new KafkaError("TRANSACTION_OPEN", `${this.transactionalId}: a transaction is already open`, {
        retriable: false,
      });
    this.#partitions = new Set(partitions.map(partitionKey));
    this.#begun = !this.#version2 || offset !== null;
    this.#prepared = this.#prepare(partitions, offset);
    // `commit` checks the outcome; until then a failure must not end the process.
    this.#prepared.catch(() => {});
  }

  /** Writes the output and commits the transaction, offsets included. */
  async commit(outputs: readonly PartitionOutput[], timestamp: number): Promise<void> {
    const announced = this.#partitions;
    if (announced === null)
      throw new KafkaError("NO_TRANSACTION", `${this.transactionalId}: no transaction is open`, { retriable: false });
    await this.#prepared;
    const further = outputs.filter((output) => !announced.has(partitionKey(output)));
    if (further.length > 0 && !this.#version2) await this.#addPartitions(further);
    this.#begun ||= outputs.length > 0;
    await this.#produce(outputs, timestamp);
    await this.#end(true);
  }

  /** Aborts the transaction under way. */
  async abort(): Promise<void> {
    if (this.#partitions === null) return;
    await this.#prepared?.catch(() => {});
    await this.#end(false);
  }

  /**
   * Closes the connections. An open transaction stays open until the id is opened again or the transaction times out.
   */
  async close(): Promise<void> {
    await this.#connections.close();
  }

  /** Both requests are sent at once: a broker answers the requests of a connection in order. */
  async #prepare(
    partitions: readonly { topic: string; partition: number }[],
    offset: ConsumedOffset | null,
  ): Promise<void> {
    await Promise.all([
      ...(this.#version2 ? [] : [this.#addPartitions(partitions)]),
      ...(offset === null ? [] : [this.#addOffsets(offset)]),
    ]);
  }

  #addPartitions(partitions: readonly { topic: string; partition: number }[]): Promise<void> {
    const topics = new Map<string, number[]>();
    for (const { topic, partition } of partitions) topics.set(topic, [...(topics.get(topic) ?? []), partition]);
    const transaction = {
      transactionalId: this.transactionalId,
      ...this.#identity,
      verifyOnly: false,
      topics: [...topics].map(([name, numbers]) => ({ name, partitions: numbers })),
    };
    return this.#patiently(async () => {
      await call(
        await this.#connections.to(this.#coordinator),
        addPartitionsToTxnV3.api,
        [[transaction]],
        `adding partitions to a transaction of ${this.transactionalId}`,
        REPLICATED_WITHIN_MS,
      );
    });
  }

  async #addOffsets({ group, topic, partition, offset, metadata = "" }: ConsumedOffset): Promise<void> {
    const doing = `adding offsets to a transaction of ${this.transactionalId}`;
    const { producerId, producerEpoch } = this.#identity;
    if (this.#version2) {
      await this.#patiently(async () => {
        await txnOffsetCommitV5(
          await this.#connections.to(await this.#groupCoordinator(group)),
          this.transactionalId,
          group,
          this.#identity,
          { topic, partition, offset, metadata },
          doing,
        );
      });
      return;
    }
    await this.#patiently(async () => {
      await call(
        await this.#connections.to(this.#coordinator),
        addOffsetsToTxnV3.api,
        [this.transactionalId, producerId, producerEpoch, group],
        doing,
        REPLICATED_WITHIN_MS,
      );
    });
    const topics = [
      {
        name: topic,
        partitions: [
          {
            partitionIndex: partition,
            committedOffset: BigInt(offset),
            committedLeaderEpoch: -1,
            committedMetadata: metadata,
          },
        ],
      },
    ];
    await this.#patiently(async () => {
      const coordinator = await this.#groupCoordinator(group);
      // Without generation and member: whoever holds the transactional id of the partition owns it.
      await call(
        await this.#connections.to(coordinator),
        txnOffsetCommitV3.api,
        [this.transactionalId, group, producerId, producerEpoch, -1, "", null, topics],
        doing,
        REPLICATED_WITHIN_MS,
      );
    });
  }

  async #groupCoordinator(group: string): Promise<BrokerAddress> {
    this.#groupCoordinatorAddress ??= await this.#cluster.coordinatorOf("group", group);
    return this.#groupCoordinatorAddress;
  }

  async #produce(outputs: readonly PartitionOutput[], timestamp: number): Promise<void> {
    // A request holds one batch per partition; the rest follows on the same connection, which keeps the order.
    const rounds = Math.max(...outputs.map((output) => output.batches.length));
    const sent: Promise<unknown>[] = [];
    for (let round = 0; round < rounds; round++) {
      const byLeader = new Map<string, { address: BrokerAddress; batches: PartitionBatch[] }>();
      for (const output of outputs) {
        const batch = output.batches.at(round);
        if (batch === undefined) continue;
        const { topic, partition } = output;
        const address = await this.#cluster.leaderOf(topic, partition);
        const leader = byLeader.get(addressKey(address)) ?? { address, batches: [] };
        leader.batches.push({ topic, partition, batch: batch.finish(timestamp, this.#stamp(output, batch.count)) });
        byLeader.set(addressKey(address), leader);
      }
      for (const { address, batches } of byLeader.values()) {
        const sending = this.#send(address, batches);
        // Checked below; should finding the next round's leader fail first, this failure must not end the process.
        sending.catch(() => {});
        sent.push(sending);
      }
    }
    await Promise.all(sent);
  }

  #stamp(
    output: { topic: string; partition: number },
    count: number,
  ): { producerId: bigint; producerEpoch: number; firstSequence: number; transactional: true } {
    const key = partitionKey(output);
    const firstSequence = this.#sequences.get(key) ?? 0;
    this.#sequences.set(key, (firstSequence + count) & 0x7fffffff);
    return { ...this.#identity, firstSequence, transactional: true };
  }

  async #send(address: BrokerAddress, batches: PartitionBatch[]): Promise<void> {
    try {
      // The previous transaction may still be completing when this one writes for the first time: then nothing of it is
      // stored yet.
      await this.#patiently(
        async () =>
          void (await produce(await this.#connections.to(address), this.transactionalId, batches, this.#version2)),
      );
    } catch (error) {
      // The next tenure must look up the leaders again.
      if (error instanceof KafkaError && error.moved)
        for (const { topic, partition } of batches)
          await this.#cluster.leaderOf(topic, partition, true).catch(() => {});
      throw error;
    }
  }

  async #end(commit: boolean): Promise<void> {
    const doing = `${commit ? "committing" : "aborting"} a transaction of ${this.transactionalId}`;
    if (this.#begun)
      await this.#patiently(async () => {
        const connection = await this.#connections.to(this.#coordinator);
        if (!this.#version2)
          return void (await call(
            connection,
            endTxnV3.api,
            [this.transactionalId, this.#identity.producerId, this.#identity.producerEpoch, commit],
            doing,
            REPLICATED_WITHIN_MS,
          ));
        this.#identity = await endTxnV5(connection, this.transactionalId, this.#identity, commit, doing);
        // Each epoch counts its batches from zero.
        this.#sequences.clear();
      });
    this.#partitions = null;
    this.#prepared = null;
  }

  /** Only what the coordinator itself reports as passing is retried; a broken connection leaves the outcome unknown. */
  #patiently(work: () => Promise<void>): Promise<void> {
    return retry(
      work,
      { ...RETRY.kafkaRequest, forMs: this.#patienceMs },
      { again: (error) => error instanceof KafkaError && WAIT_FOR.has(error.code) },
    );
  }
}

const WAIT_FOR = new Set(
  ["CONCURRENT_TRANSACTIONS", "COORDINATOR_LOAD_IN_PROGRESS"].map((name) => protocolError(name, "").code),
);

function partitionKey({ topic, partition }: { topic: string; partition: number }): string {
  return `${topic}[${partition}]`;
}
