import type { BrokerAddress, KafkaCluster } from "./cluster.js";
import { KafkaError } from "./errors.js";
import type { Connection } from "./wire.js";

/** A producer's own connections, one per broker, opened when first needed and again when one is lost. */
export class ConnectionsByBroker {
  readonly #cluster: KafkaCluster;
  readonly #open = new Map<string, { opening: Promise<Connection>; opened: Connection | null }>();
  #closed = false;

  constructor(cluster: KafkaCluster) {
    this.#cluster = cluster;
  }

  to(address: BrokerAddress): Promise<Connection> {
    // Work under way when its owner closes must not open a connection: nobody would close it, and it would keep the
    // process alive.
    if (this.#closed) return Promise.reject(new KafkaError("CLOSED", "the producer is closed", { retriable: false }));
    const key = addressKey(address);
    const entry = this.#open.get(key);
    if (entry !== undefined && (entry.opened === null || entry.opened.isConnected())) return entry.opening;
    const fresh: { opening: Promise<Connection>; opened: Connection | null } = {
      opening: this.#cluster.open(address),
      opened: null,
    };
    this.#open.set(key, fresh);
    fresh.opening.then(
      (connection) => (fresh.opened = connection),
      () => this.#open.get(key) === fresh && this.#open.delete(key),
    );
    return fresh.opening;
  }

  /**
   * Discards a connection on which a request got no response: its later responses would be taken for those of others.
   */
  async drop(address: BrokerAddress): Promise<void> {
    const entry = this.#open.get(addressKey(address));
    this.#open.delete(addressKey(address));
    await closeEntry(entry);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const entries = [...this.#open.values()];
    this.#open.clear();
    await Promise.all(entries.map(closeEntry));
  }
}

/** A connection that is still being opened is closed once it is open: a silent broker holds nobody up. */
async function closeEntry(
  entry: { opening: Promise<Connection>; opened: Connection | null } | undefined,
): Promise<void> {
  if (entry === undefined) return;
  const closed = entry.opening.then(
    (connection) => connection.close(),
    () => {},
  );
  if (entry.opened !== null) await closed;
}

export function addressKey({ host, port }: BrokerAddress): string {
  return `${host}:${port}`;
}
