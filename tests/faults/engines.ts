import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineProcess } from "../../infra/local/engine-process.js";
import { fetchKafkaJars } from "../../infra/local/kafka-jars.js";
import { newClusterId } from "../../infra/local/kafka-java.js";
import { freePorts } from "../../infra/local/ports.js";
import { clickhouseAnswers, kafkaAnswers } from "../../infra/local/ready.js";
import { QUIET, prepareStorage } from "./broker-storage.js";
import { Proxy } from "./proxy.js";

const START_MS = 300_000;
const STOP_MS = 20_000;

/** An engine that can be stopped, killed and started again on the same data and the same port. */
export interface Engine {
  readonly name: "kafka" | "clickhouse";
  start(): Promise<void>;
  /** Asks it to end and waits until it has. */
  stop(): Promise<void>;
  /** kill -9 */
  kill(): Promise<void>;
  /** The process itself. */
  signal(signal: NodeJS.Signals): void;
}

/**
 * One Kafka broker with a listener for each role process, whose advertised address is that process' own proxy: so every
 * connection of a role goes through its proxy, and no other role is touched when it is cut. `direct` is nobody's.
 */
export class KafkaEngine implements Engine {
  readonly name = "kafka";
  readonly #folder: string;
  readonly #proxies = new Map<string, Proxy>();
  #jars = "";
  #clusterId = "";
  #directPort = 0;
  #broker: { guard: EngineProcess; pid: number } | null = null;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Reserves ports and opens the proxies; to be called once, before `start`. @param firstPort where to look for free
   * ports
   */
  async prepare(cacheDir: string, users: readonly string[], firstPort: number): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    this.#jars = await fetchKafkaJars(cacheDir, () => {});
    const first = await freePorts(firstPort, users.length + 2);
    this.#directPort = first;
    const listeners = [`DIRECT://127.0.0.1:${first}`, `CONTROLLER://127.0.0.1:${first + 1}`];
    const advertised = [`DIRECT://127.0.0.1:${first}`];
    for (const [i, user] of users.entries()) {
      const port = first + 2 + i;
      const proxy = await Proxy.open({ port });
      this.#proxies.set(user, proxy);
      listeners.push(`USER${i}://127.0.0.1:${port}`);
      advertised.push(`USER${i}://127.0.0.1:${proxy.port}`);
    }
    const protocols = ["DIRECT", "CONTROLLER", ...users.map((_, i) => `USER${i}`)].map((name) => `${name}:PLAINTEXT`);
    const ours = {
      listeners: listeners.join(","),
      "advertised.listeners": advertised.join(","),
      "listener.security.protocol.map": protocols.join(","),
      "inter.broker.listener.name": "DIRECT",
      "num.network.threads": 1,
      "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
    };
    const place = {
      bind: "127.0.0.1",
      port: first,
      controllerPort: first + 1,
      advertised: `127.0.0.1:${first}`,
      logDir: join(this.#folder, "data"),
    };
    this.#clusterId = newClusterId();
    const storage = { jars: this.#jars, clusterId: this.#clusterId, properties: this.#properties };
    await prepareStorage(storage, place, ours);
  }

  /** The address for whoever must not be disturbed but by the broker's own end. */
  get direct(): string {
    return `127.0.0.1:${this.#directPort}`;
  }

  proxy(user: string): Proxy {
    return this.#proxies.get(user) as Proxy;
  }

  async start(): Promise<void> {
    const java = [
      "-Xms384m",
      "-Xmx384m",
      "-XX:+UseSerialGC",
      ...QUIET,
      "-cp",
      join(this.#jars, "*"),
      "kafka.Kafka",
      this.#properties,
    ];
    for (let tries = 1; ; tries++) {
      const guard = await EngineProcess.start({
        name: "Apache Kafka",
        module: "infra/local/guard",
        args: ["-", "java", ...java],
        logFile: join(this.#folder, "kafka.log"),
      });
      const done = new AbortController();
      try {
        const pid = Number(await guard.message("enginePid", START_MS));
        this.#broker = { guard, pid };
        await guard.orFail(kafkaAnswers(this.direct, this.#clusterId, done.signal), START_MS);
        return;
      } catch (error) {
        // Right after a kill a port may still be taken for a moment.
        if (tries === 3) throw error;
        await guard.stop(STOP_MS);
        await sleep(1_000);
      } finally {
        done.abort();
      }
    }
  }

  async stop(): Promise<void> {
    const broker = this.#broker;
    this.#broker = null;
    await broker?.guard.stop(STOP_MS);
  }

  async kill(): Promise<void> {
    const broker = this.#broker;
    this.#broker = null;
    if (broker === null) return;
    process.kill(broker.pid, "SIGKILL");
    await broker.guard.ended;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#broker !== null) process.kill(this.#broker.pid, signal);
  }

  async closeProxies(): Promise<void> {
    await Promise.all([...this.#proxies.values()].map((proxy) => proxy.close()));
  }

  get #properties(): string {
    return join(this.#folder, "server.properties");
  }
}

/** ClickHouse (chdb) as a process, with a proxy for each role process. */
export class ClickHouseEngine implements Engine {
  readonly name = "clickhouse";
  readonly #folder: string;
  readonly #proxies = new Map<string, Proxy>();
  readonly #target = { port: 0 };
  #server: EngineProcess | null = null;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async prepare(users: readonly string[], firstPort: number): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    this.#target.port = await freePorts(firstPort, 1);
    for (const user of users) this.#proxies.set(user, await Proxy.open(this.#target));
  }

  get direct(): string {
    return `http://127.0.0.1:${this.#target.port}`;
  }

  proxy(user: string): Proxy {
    return this.#proxies.get(user) as Proxy;
  }

  async start(): Promise<void> {
    const server = await EngineProcess.start({
      name: "ClickHouse (chdb)",
      module: "infra/local/clickhouse-server",
      args: [join(this.#folder, "data"), String(this.#target.port)],
      logFile: join(this.#folder, "clickhouse.log"),
      env: { UV_THREADPOOL_SIZE: "16" },
    });
    this.#server = server;
    this.#target.port = Number(await server.message("port", START_MS));
    const done = new AbortController();
    await server.orFail(clickhouseAnswers(this.direct, done.signal), START_MS).finally(() => done.abort());
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    await server?.stop(STOP_MS);
  }

  async kill(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    process.kill(server.pid, "SIGKILL");
    await server.ended;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#server !== null) process.kill(this.#server.pid, signal);
  }

  async closeProxies(): Promise<void> {
    await Promise.all([...this.#proxies.values()].map((proxy) => proxy.close()));
  }
}
