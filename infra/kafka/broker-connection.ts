import { Connection, type ConnectionOptions } from "./wire.js";
import { KafkaError } from "./errors.js";

/** A request that received no byte of a response for this long is given up; the next attempt goes to another broker. */
export const SILENT_AFTER_MS = 5_000;
/** A timer that is later than this says more about this process than about a broker. */
const LATE_MS = 1_000;
/** Where a broker waits for its replicas before it answers, it may rightly be silent for longer. */
export const REPLICATED_WITHIN_MS = 10_000;

/**
 * A connection to one broker whose requests don't wait for a silent broker: frozen, cut off, or behind a network that
 * swallows packets. What counts is silence, not the length of a response: a large one over a slow link may take its
 * time.
 */
export class BrokerConnection extends Connection {
  readonly #heard: (answered: boolean) => void;

  /** @param heard called after every response, and after every request that got none */
  constructor(clientId: string, options: ConnectionOptions, heard: (answered: boolean) => void) {
    super(clientId, options);
    this.#heard = heard;
  }

  /** Closes at once: a peer that is gone never receives what is still to be sent. */
  override close(): Promise<void> {
    const closed = super.close();
    this.socket?.destroy();
    return closed;
  }

  /**
   * Waits for a response for as long as bytes move.
   *
   * @throws KafkaError `kafka_network` if no byte has come or gone for `silentMs`; the connection is then closed
   */
  answered<T>(answer: Promise<T>, silentMs: number, doing: string): Promise<T> {
    return new Promise((resolve, reject) => {
      let moved = this.#moved();
      let dueAt = performance.now() + silentMs;
      const look = (): void => {
        const now = this.#moved();
        // A process that was stopped, or too busy, has not read responses that are there.
        if (now !== moved || performance.now() - dueAt > LATE_MS) {
          moved = now;
          dueAt = performance.now() + silentMs;
          timer = setTimeout(look, silentMs);
          return;
        }
        this.#heard(false);
        void this.close();
        reject(
          new KafkaError(
            "NETWORK",
            `${doing}: ${this.host ?? "the broker"}:${this.port ?? ""} did not answer within ${silentMs} ms`,
            { retriable: true },
          ),
        );
      };
      let timer = setTimeout(look, silentMs);
      answer.then(
        (value) => {
          clearTimeout(timer);
          this.#heard(true);
          resolve(value);
        },
        (error: Error) => {
          clearTimeout(timer);
          reject(error);
        },
      );
    });
  }

  /** Changes whenever bytes are received or sent. */
  #moved(): number {
    const { bytesRead = 0, writableLength = 0 } = this.socket ?? {};
    return bytesRead - writableLength;
  }
}
