import { isIP } from "node:net";
import { RETRY, retry } from "../async/retry.js";
import type { KafkaConfig } from "../config/config.js";
import type { Logger } from "../logging.js";
import { BrokerConnection, SILENT_AFTER_MS } from "./broker-connection.js";
import { KafkaError, protocolError, toKafkaError } from "./errors.js";
import { LogIncidents } from "./log-incidents.js";
import type { OpenReader } from "./open-readers.js";
import type { FetchedRecords } from "./records.js";
import { SilentBrokers } from "./silent-brokers.js";
import {
  findCoordinatorV4,
  metadataV12,
  type API,
  type Connection,
  type ConnectionOptions,
  type Reader,
  type Writer,
} from "./wire.js";

export interface BrokerAddress {
  host: string;
  port: number;
}
export type CoordinatorOf = "group" | "transaction";
const COORDINATOR_KEY_TYPE = { group: 0, transaction: 1 } as const;

interface TopicMetadata {
  leaders: (number | null)[];
  identity: TopicIdentity;
  /** By `performance.now()`. */ readAt: number;
}

/** Which topic of which cluster a name refers to: one that was deleted and created again is another topic. */
export interface TopicIdentity {
  cluster: string;
  topicId: string;
}

export interface KafkaClusterOptions {
  /** Where to report batches that can't be read. @default nowhere */
  log?: Logger;
  /**
   * Aborts when the process stops: whatever still waits for a broker a few seconds later is given up. @default never
   */
  stopping?: AbortSignal;
}

/** Work under way when a process is told to stop gets this long; whoever takes over settles what is still open then. */
const STOP_WITHIN_MS = 5_000;

const CONNECT_WITHIN_MS = 4_000;
/** A broker that was silent gets this long to show that it is back, before any other request is sent to it. */
const PROBE_MS = 3_000;
/** Any broker can say who leads and who coordinates: if there are others, none is waited for longer than this. */
const METADATA_WITHIN_MS = 3_000;
/** Only a silent broker is given up on (broker-connection.ts): this limit is for one that sends bytes without end. */
const LONGEST_ANSWER_MS = 300_000;

/** How many coordinates are remembered, so that batches that are read again are not reported again. */
const MOST_REPORTED = 10_000;

/**
 * A Kafka cluster as the hot path sees it: who leads a partition, who coordinates a group or a transactional id, and
 * separate connections to them. A connection is never shared: a long poll would hold up everything else on it.
 */
export class KafkaCluster {
  readonly #clientId: string;
  readonly #bootstrap: BrokerAddress[];
  readonly #options: ConnectionOptions;
  readonly #topics = new Map<string, TopicMetadata>();
  readonly #silent = new SilentBrokers();
  /** What readers of this cluster have met that an operator must know about. */
  readonly incidents = new LogIncidents();
  /** The readers that are open now. */
  readonly readers = new Set<OpenReader>();
  #brokers = new Map<number, BrokerAddress>();
  #control: Connection | null = null;
  #controlOpening: Promise<Connection> | null = null;
  /** Every connection that is open or being opened; its owner closes it. */
  readonly #connections = new Set<Connection>();
  #closed = false;
  #givenUp = false;
  readonly #log: Logger | null;
  readonly #reported = new Set<string>();

  constructor(config: KafkaConfig, clientId: string, { log, stopping }: KafkaClusterOptions = {}) {
    this.#log = log ?? null;
    stopping?.addEventListener("abort", () => setTimeout(() => this.#giveUp(), STOP_WITHIN_MS).unref(), { once: true });
    this.#clientId = clientId;
    this.#bootstrap = config.brokers.map((broker) => {
      const colon = broker.lastIndexOf(":");
      return { host: broker.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(broker.slice(colon + 1)) };
    });
    this.#options = {
      connectTimeout: CONNECT_WITHIN_MS,
      requestTimeout: LONGEST_ANSWER_MS,
      maxInflights: 5,
      ...(config.ssl === false ? {} : { tls: config.ssl === true ? {} : config.ssl }),
      ...(config.sasl
        ? {
            sasl: {
              mechanism: config.sasl.mechanism.toUpperCase() as "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512",
              username: config.sasl.username,
              password: config.sasl.password,
            },
          }
        : {}),
    };
  }

  /**
   * Opens a connection for the caller alone; the caller closes it. A broker that was silent must answer a request
   * first.
   */
  async open(address: BrokerAddress): Promise<Connection> {
    if (this.#givenUp) throw closedError();
    const name = addressOf(address);
    const wasSilent = this.#silent.has(name);
    // TLS server names must not be addresses (RFC 6066); a certificate is checked against either.
    const options = {
      ...this.#options,
      tlsServerName: isIP(address.host) === 0,
      ...(wasSilent ? { connectTimeout: PROBE_MS } : {}),
    };
    const connection = new BrokerConnection(this.#clientId, options, (answered) => this.#heard(name, answered));
    // Requests in flight each get their own error; an event without a listener would end the process.
    connection.on("error", () => {});
    this.#connections.add(connection);
    connection.once("close", () => this.#connections.delete(connection));
    try {
      await connection.connect(address.host, address.port);
      // A connection that is closed while it connects never reports that.
      if (this.#givenUp) throw closedError();
      if (wasSilent)
        await call(connection, metadataV12.api, [[], false, false], "looking whether it answers again", PROBE_MS);
      return connection;
    } catch (error) {
      if (error instanceof Error && error.message.endsWith("timed out.")) this.#heard(name, false);
      this.#connections.delete(connection);
      void connection.close().catch(() => {});
      throw toKafkaError(error, `connecting to ${name}`);
    }
  }

  /** Ends whatever waits for a broker, and lets nothing new begin. */
  #giveUp(): void {
    this.#closed = this.#givenUp = true;
    for (const connection of this.#connections) if (connection.isConnected()) void connection.close().catch(() => {});
  }

  #heard(broker: string, answered: boolean): void {
    if (!answered && !this.#silent.has(broker))
      this.#log?.warn({ broker }, "a Kafka broker does not answer; others are asked first until it does");
    this.#silent.note(broker, answered);
  }

  /** The broker that leads a partition. Asks the cluster if it isn't known, or if `fresh` says that it has changed. */
  async leaderOf(topic: string, partition: number, fresh = false): Promise<BrokerAddress> {
    return (await this.leaderAndTopic(topic, partition, fresh)).address;
  }

  /** The same, with the id of the topic that the name refers to. */
  async leaderAndTopic(
    topic: string,
    partition: number,
    fresh = false,
  ): Promise<{ address: BrokerAddress; topicId: string }> {
    let metadata = fresh ? undefined : this.#topics.get(topic);
    metadata ??= await this.#refresh(topic);
    // A partition that isn't known may have been added since.
    if (metadata.leaders[partition] === undefined && !fresh) metadata = await this.#refresh(topic);
    const leader = metadata.leaders[partition];
    if (leader === undefined)
      throw protocolError("UNKNOWN_TOPIC_OR_PARTITION", `finding the leader of ${topic}[${partition}]`);
    const address = leader === null ? undefined : this.#brokers.get(leader);
    if (address === undefined) {
      this.#topics.delete(topic);
      throw protocolError("LEADER_NOT_AVAILABLE", `finding the leader of ${topic}[${partition}]`);
    }
    return { address, topicId: metadata.identity.topicId };
  }

  /** Any broker that can be reached, for requests that every broker can answer. */
  async anyBroker(): Promise<BrokerAddress> {
    const { host, port } = await this.#controlConnection();
    if (host === undefined || port === undefined) throw protocolError("BROKER_NOT_AVAILABLE", "looking for a broker");
    return { host, port };
  }

  /** How many partitions a topic has. */
  async partitionsOf(topic: string): Promise<number> {
    return (await this.#refresh(topic)).leaders.length;
  }

  /** Which topic a name refers to. @param maxAgeMs asks the cluster unless it has answered within this time */
  async identityOf(topic: string, maxAgeMs = 0): Promise<TopicIdentity> {
    const known = this.#topics.get(topic);
    if (known !== undefined && performance.now() - known.readAt < maxAgeMs) return known.identity;
    return (await this.#refresh(topic)).identity;
  }

  /**
   * The cluster's id. Doesn't ask about topics: one that was just created isn't known to every broker yet. Each role
   * asks for it as it starts: a cluster that goes away meanwhile is waited for.
   */
  async clusterId(): Promise<string> {
    const ask = async (): Promise<string> =>
      (await this.#ask(metadataV12.api, [[], false, false], "asking for the cluster's id")).clusterId ?? "";
    return retry(ask, RETRY.kafkaAtStart);
  }

  /**
   * How many partitions topics have, by name; 0: the topic doesn't exist. Topics without a leader at present are left
   * out.
   */
  async partitionCounts(topics: readonly string[]): Promise<Map<string, number>> {
    const counts = new Map<string, number>();
    for (const topic of topics) {
      try {
        counts.set(topic, (await this.#refresh(topic)).leaders.length);
      } catch (error) {
        if (!(error instanceof KafkaError)) throw error;
        if (error.code === "kafka_unknown_topic_or_partition") counts.set(topic, 0);
        else if (error.code !== "kafka_leader_not_available") throw error;
      }
    }
    return counts;
  }

  async coordinatorOf(kind: CoordinatorOf, key: string): Promise<BrokerAddress> {
    const doing = `finding the coordinator of ${kind} ${key}`;
    const response = await this.#ask(findCoordinatorV4.api, [COORDINATOR_KEY_TYPE[kind], [key]], doing);
    const found = response.coordinators[0];
    if (found === undefined) throw protocolError("COORDINATOR_NOT_AVAILABLE", doing);
    return { host: found.host, port: found.port };
  }

  /** Batches and values that readers could not read, each counted once. */
  get unread(): number {
    return this.#reported.size;
  }

  /** Logs what a fetch could not read: its reader continues after it. */
  reportUnread({ topic, partition, offset, unread }: FetchedRecords): void {
    for (const [index, { code, reason, lastOffset, length }] of unread ?? []) {
      const coordinates = `${topic}[${partition}] at offset ${offset[index]}`;
      if (this.#reported.has(coordinates) || this.#reported.size >= MOST_REPORTED) continue;
      this.#reported.add(coordinates);
      this.#log?.error(
        { code, topic, partition, offset: offset[index], lastOffset, length },
        `${coordinates}: a ${code === "too_large" ? "record" : "batch"} was not read: ${reason}`,
      );
    }
  }

  /** Closes the connection for metadata; the other connections belong to their owners. */
  async close(): Promise<void> {
    this.#closed = true;
    const control = this.#control;
    this.#control = null;
    await control?.close();
  }

  async #refresh(topic: string): Promise<TopicMetadata> {
    const response = await this.#ask(metadataV12.api, [[topic], false, false], `reading metadata of ${topic}`);
    this.#brokers = new Map(
      response.brokers.map((broker) => [broker.nodeId, { host: broker.host, port: broker.port }]),
    );
    const found = response.topics[0];
    if (found === undefined) throw protocolError("UNKNOWN_TOPIC_OR_PARTITION", `reading metadata of ${topic}`);
    const leaders: (number | null)[] = [];
    for (const partition of found.partitions)
      leaders[partition.partitionIndex] = partition.leaderId < 0 ? null : partition.leaderId;
    const metadata = {
      leaders,
      identity: { cluster: response.clusterId ?? "", topicId: found.topicId },
      readAt: performance.now(),
    };
    this.#topics.set(topic, metadata);
    return metadata;
  }

  /** Sends a request that any broker can answer; if one doesn't answer, the next one is asked. */
  async #ask<A extends unknown[], R>(api: API<A, R>, args: A, doing: string): Promise<R> {
    const others = this.#addresses().length - 1;
    const ask = async (): Promise<R> => {
      let connection: Connection | null = null;
      try {
        connection = await this.#controlConnection();
        return await call(connection, api, args, doing, others > 0 ? METADATA_WITHIN_MS : undefined);
      } catch (error) {
        if (isNetwork(error) && connection !== null && this.#control === connection) {
          this.#control = null;
          void connection.close();
        }
        throw error;
      }
    };
    return retry(ask, RETRY.nextBroker, {
      // Brokers that refuse connections are away; silent ones may be back by the next time.
      again: (error) => isNetwork(error) && !this.#closed && this.#silent.any,
    });
  }

  /** Every known broker, those that were silent last. */
  #addresses(): BrokerAddress[] {
    const known = new Map(
      [...this.#bootstrap, ...this.#brokers.values()].map((address) => [addressOf(address), address]),
    );
    return this.#silent.sort([...known.values()], addressOf);
  }

  async #controlConnection(): Promise<Connection> {
    if (this.#closed) throw closedError();
    if (this.#control?.isConnected()) return this.#control;
    this.#controlOpening ??= this.#openControl().finally(() => (this.#controlOpening = null));
    return this.#controlOpening;
  }

  async #openControl(): Promise<Connection> {
    let last: unknown;
    for (const address of this.#addresses()) {
      try {
        const connection = await this.open(address);
        if (this.#closed) {
          await connection.close();
          break;
        }
        this.#control = connection;
        return connection;
      } catch (error) {
        last = error;
      }
    }
    throw toKafkaError(last ?? new Error("closed"), "connecting to Kafka");
  }
}

function closedError(): KafkaError {
  return new KafkaError("CLOSED", "the Kafka cluster object is closed", { retriable: false });
}

function addressOf({ host, port }: BrokerAddress): string {
  return `${host}:${port}`;
}

/** Calls one API of the protocol. @throws KafkaError `kafka_network` when the broker is silent for `silentMs` */
export async function call<A extends unknown[], R>(
  connection: Connection,
  api: API<A, R>,
  args: A,
  doing: string,
  silentMs = SILENT_AFTER_MS,
): Promise<R> {
  try {
    return await answered(connection, api.async(connection, ...args), silentMs, doing);
  } catch (error) {
    throw toKafkaError(error, doing);
  }
}

/** A request of the protocol that the library has no function for, or not for this version. */
export interface OwnRequest<T> {
  key: number;
  version: number;
  /** Whether the header of the response has tagged fields; ApiVersions never has any. @default true */
  taggedResponse?: boolean;
  write: () => Writer;
  /** Reads the body of a response; an exception becomes the call's error. */
  read: (reader: Reader) => T;
}

function answered<T>(connection: Connection, answer: Promise<T>, silentMs: number, doing: string): Promise<T> {
  return connection instanceof BrokerConnection ? connection.answered(answer, silentMs, doing) : answer;
}

/** Sends such a request. @throws KafkaError `kafka_network` when the broker is silent for `silentMs` */
export function send<T>(
  connection: Connection,
  { key, version, taggedResponse = true, write, read }: OwnRequest<T>,
  doing: string,
  silentMs = SILENT_AFTER_MS,
): Promise<T> {
  const answer = new Promise<T>((resolve, reject) => {
    connection.send(
      key,
      version,
      write,
      (_correlationId, _key, _version, reader) => read(reader),
      true,
      taggedResponse,
      (error, value) => {
        if (error) reject(toKafkaError(error, doing));
        else resolve(value as T);
      },
    );
  });
  return answered(connection, answer, silentMs, doing);
}

function isNetwork(error: unknown): boolean {
  return error instanceof KafkaError && error.code === "kafka_network";
}
