import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineProcess } from "../../infra/local/engine-process.js";
import { fetchKafkaJars } from "../../infra/local/kafka-jars.js";
import { newClusterId } from "../../infra/local/kafka-java.js";
import { freePorts } from "../../infra/local/ports.js";
import { kafkaAnswers } from "../../infra/local/ready.js";
import { QUIET, prepareStorage } from "../faults/broker-storage.js";

const START_MS = 300_000;
const STOP_MS = 20_000;

interface Broker {
  id: number;
  address: string;
  folder: string;
  guard: EngineProcess | null;
  pid: number;
}

/**
 * Three Kafka brokers, each one a controller, too; topics have three copies, two of which must have a record. What
 * decides how soon a lost broker is replaced is left at Kafka's defaults (`broker.session.timeout.ms` 9 s).
 */
export class Brokers {
  readonly #brokers: Broker[];
  readonly #jars: string;
  readonly #clusterId: string;

  private constructor(brokers: Broker[], jars: string, clusterId: string) {
    this.#brokers = brokers;
    this.#jars = jars;
    this.#clusterId = clusterId;
  }

  /** Formats three storages below a folder and starts a broker on each. */
  static async start(folder: string, cacheDir: string): Promise<Brokers> {
    const jars = await fetchKafkaJars(cacheDir, () => {});
    const first = await freePorts(25_000 + (process.pid % 300) * 6, 6);
    const clusterId = newClusterId();
    const brokers = [1, 2, 3].map((id) => ({
      id,
      address: `127.0.0.1:${first + id - 1}`,
      folder: join(folder, `broker-${id}`),
      guard: null,
      pid: 0,
    }));
    const voters = brokers.map(({ id }) => `${id}@127.0.0.1:${first + 2 + id}`).join(",");
    const all = new Brokers(brokers, jars, clusterId);
    try {
      for (const broker of brokers) await all.#format(broker, first, voters);
      await Promise.all(brokers.map((broker) => all.#start(broker)));
      return all;
    } catch (error) {
      await all.stop();
      throw error;
    }
  }

  get addresses(): string[] {
    return this.#brokers.map(({ address }) => address);
  }

  get ids(): number[] {
    return this.#brokers.map(({ id }) => id);
  }

  addressOf(id: number): string {
    return this.#of(id).address;
  }

  /** SIGSTOP: its sockets stay open, and nothing answers on them. */
  freeze(id: number): void {
    process.kill(this.#of(id).pid, "SIGSTOP");
  }

  thaw(id: number): void {
    process.kill(this.#of(id).pid, "SIGCONT");
  }

  /** kill -9 */
  async kill(id: number): Promise<void> {
    const broker = this.#of(id);
    process.kill(broker.pid, "SIGKILL");
    await broker.guard?.ended;
    broker.guard = null;
  }

  /** Starts those again that were killed, and waits until they answer. */
  async restart(): Promise<void> {
    await Promise.all(this.#brokers.filter(({ guard }) => guard === null).map((broker) => this.#start(broker)));
  }

  async stop(): Promise<void> {
    await Promise.all(
      this.#brokers.map(async (broker) => {
        if (broker.guard === null) return;
        // A frozen one can't end politely.
        process.kill(broker.pid, "SIGCONT");
        await broker.guard.stop(STOP_MS);
      }),
    );
  }

  #of(id: number): Broker {
    return this.#brokers.find((broker) => broker.id === id) as Broker;
  }

  async #format({ id, folder }: Broker, first: number, voters: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    const place = {
      bind: "127.0.0.1",
      port: first + id - 1,
      controllerPort: first + 2 + id,
      advertised: `127.0.0.1:${first + id - 1}`,
      logDir: join(folder, "data"),
    };
    const ours = {
      "node.id": id,
      "controller.quorum.voters": voters,
      "default.replication.factor": 1,
      "offsets.topic.replication.factor": 3,
      "transaction.state.log.replication.factor": 3,
      "transaction.state.log.min.isr": 2,
      "offsets.topic.num.partitions": 6,
      "transaction.state.log.num.partitions": 6,
      "num.network.threads": 1,
    };
    const properties = join(folder, "server.properties");
    await prepareStorage({ jars: this.#jars, clusterId: this.#clusterId, properties }, place, ours);
  }

  async #start(broker: Broker): Promise<void> {
    const java = [
      "-Xms256m",
      "-Xmx384m",
      "-XX:+UseSerialGC",
      ...QUIET,
      "-cp",
      join(this.#jars, "*"),
      "kafka.Kafka",
      join(broker.folder, "server.properties"),
    ];
    const guard = await EngineProcess.start({
      name: `Kafka broker ${broker.id}`,
      module: "infra/local/guard",
      args: ["-", "java", ...java],
      logFile: join(broker.folder, "kafka.log"),
    });
    broker.guard = guard;
    broker.pid = Number(await guard.message("enginePid", START_MS));
    const done = new AbortController();
    await guard
      .orFail(kafkaAnswers(broker.address, this.#clusterId, done.signal), START_MS)
      .finally(() => done.abort());
  }
}
