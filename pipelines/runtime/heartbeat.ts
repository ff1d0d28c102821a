import type { BatchProducer } from "../../infra/kafka/batch-producer.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import type { Logger } from "../../infra/logging.js";
import { heartbeatRecord } from "../../models/control/heartbeats.js";
import type { WorkerHeartbeat } from "../../schemas/generated.js";
import { messageOf } from "../../schemas/errors.js";

export interface HeartbeatOptions {
  /** Opens the producer; called again when the previous one has failed. */
  openProducer: () => Promise<BatchProducer>;
  topic: string;
  schemas: Schemas;
  log: Logger;
  worker: string;
  role: string;
  /** The content of a heartbeat; asked for at each beat. */
  report: () => Pick<WorkerHeartbeat, "partitions" | "problems" | "refused" | "job">;
}

const EVERY_MS = 1_000;

/** Reports what one process is doing, once a second and whenever `beat` is called. Its failures never stop the role. */
export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #producer: BatchProducer | null = null;
  #timer: NodeJS.Timeout | null = null;
  #sending: Promise<void> | null = null;
  #again = false;
  #stopped = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => this.beat(), EVERY_MS);
    this.beat();
  }

  /** Sends a heartbeat soon; calls made while one is under way cause one more. */
  beat(): void {
    // A deployment may change while the role is stopping; a producer opened then would never be closed.
    if (this.#stopped) return;
    if (this.#sending !== null) {
      this.#again = true;
      return;
    }
    this.#sending = this.#send().finally(() => {
      this.#sending = null;
      if (!this.#again) return;
      this.#again = false;
      this.beat();
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#sending;
    await this.#producer?.close();
  }

  async #send(): Promise<void> {
    const { openProducer, topic, schemas, log, worker, role, report } = this.#options;
    try {
      const record = heartbeatRecord(schemas, { worker, role, at: Date.now(), sign_in_locks: [], ...report() });
      this.#producer ??= await openProducer();
      await this.#producer.publishTo(topic, 0, [record]);
    } catch (error) {
      log.warn(`a heartbeat could not be sent: ${messageOf(error)}`);
      const failed = this.#producer;
      this.#producer = null;
      await failed?.close();
    }
  }
}
