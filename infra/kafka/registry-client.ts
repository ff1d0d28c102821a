import { Agent as HttpsAgent } from "node:https";
import type { Agent } from "node:http";
import { SchemaRegistry } from "@kafkajs/confluent-schema-registry";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { SchemaKey } from "../../schemas/wire-format.js";
import { within } from "../async/within.js";

/** What a registry says about a schema. */
export interface RegistrySchema {
  schema: string;
  schemaType?: string;
  references?: { name: string; subject: string; version: number }[];
}
interface Version extends RegistrySchema {
  id: number;
  version: number;
}

export interface RegistryClientOptions {
  url: string;
  auth: { username: string; password: string } | null;
  /** PEM text of the authorities to trust with an https URL; null: the authorities that Node trusts. */
  tlsCa: string | null;
  /** How long a response may take, milliseconds. @default 5_000 */
  answerWithinMs?: number;
}

/** A request that the registry answered with an error status. */
export class RegistryRefusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/**
 * The requests of the registry's client, whose own methods do more than is wanted here: types of avsc, changes of
 * policy.
 */
interface Api {
  Schema: { find(request: object): Promise<Answer> };
  Subject: {
    all(request: object): Promise<Answer>;
    register(request: object): Promise<Answer>;
    registered(request: object): Promise<Answer>;
    latestVersion(request: object): Promise<Answer>;
    version(request: object): Promise<Answer>;
  };
}
interface Answer {
  data<T>(): T;
}

const ANSWER_WITHIN_MS = 5_000;
/** How many requests may be under way at a time. */
const MOST_AT_ONCE = 8;

/**
 * 4xx responses that say nothing about what was asked for, only about who asks, how often, or how slowly. 400 is among
 * them, since the client gives it to requests that got no response. All others (404, 410, 422, …) mean that there is no
 * such thing.
 */
const TELLS_NOTHING = new Set([400, 401, 403, 407, 408, 425, 429]);

/** Sends requests to a schema registry. Every request has a time limit. */
export class RegistryClient {
  readonly #api: Api;
  readonly #agent: Agent | undefined;
  readonly #answerWithinMs: number;
  #free = MOST_AT_ONCE;
  readonly #waiting: (() => void)[] = [];

  constructor({ url, auth, tlsCa, answerWithinMs = ANSWER_WITHIN_MS }: RegistryClientOptions) {
    this.#answerWithinMs = answerWithinMs;
    this.#agent = tlsCa === null ? undefined : new HttpsAgent({ ca: tlsCa });
    const registry = new SchemaRegistry({
      host: url,
      retry: { retries: 2 },
      ...(auth === null ? {} : { auth }),
      ...(this.#agent === undefined ? {} : { agent: this.#agent }),
    });
    this.#api = (registry as unknown as { api: Api }).api;
  }

  /**
   * The schema of an id or a GUID; null: there is none.
   *
   * @throws FraudstreamError `schema_registry_unreachable` (retriable): the registry gave no answer, or an inconclusive
   *   one
   */
  async schema(key: SchemaKey): Promise<RegistrySchema | null> {
    const request = typeof key === "number" ? { id: key } : { path: `/schemas/guids/${encodeURIComponent(key)}` };
    const found = await this.#unlessUnknown<RegistrySchema>(`schema ${key}`, () =>
      this.#api.Schema.find(this.#limited(request)),
    );
    if (found !== null && typeof (found as Partial<RegistrySchema>).schema !== "string")
      throw notGiven(`schema ${key}`, new Error("its answer has no schema"));
    return found;
  }

  /**
   * Sends some request, to see whether the registry answers at all.
   *
   * @param known an id that it has given; null: none yet
   */
  async probe(known: SchemaKey | null): Promise<void> {
    if (known !== null) await this.schema(known);
    else await this.#unlessUnknown("its subjects", () => this.#api.Subject.all(this.#limited({})));
  }

  /** A version of a subject; null: there is none. @throws FraudstreamError `schema_registry_unreachable` (retriable) */
  async version(subject: string, version: number | "latest"): Promise<Version | null> {
    return this.#unlessUnknown(`${subject} version ${version}`, () =>
      this.#api.Subject.version(this.#limited({ subject, version })),
    );
  }

  /** The id under which a subject has a schema; null: it doesn't have it. @throws RegistryRefusal */
  async lookup(subject: string, schema: string): Promise<number | null> {
    try {
      return (await this.#ask(() => this.#api.Subject.registered(this.#limited({ subject, body: { schema } })))).data<{
        id: number;
      }>().id;
    } catch (error) {
      if (error instanceof RegistryRefusal && error.status === 404) return null;
      throw error;
    }
  }

  /** Registers a schema and leaves the registry's policy as it is. @throws RegistryRefusal */
  async register(subject: string, schema: string): Promise<number> {
    return (await this.#ask(() => this.#api.Subject.register(this.#limited({ subject, body: { schema } })))).data<{
      id: number;
    }>().id;
  }

  async #unlessUnknown<T>(what: string, request: () => Promise<Answer>): Promise<T | null> {
    try {
      return (await this.#ask(request)).data<T | null>();
    } catch (error) {
      if (error instanceof RegistryRefusal && error.status < 500 && !TELLS_NOTHING.has(error.status)) return null;
      throw notGiven(what, error);
    }
  }

  #limited(request: object): object {
    // The limit of #ask comes first: what the client reports for a request that it gave up looks like a response.
    const most = this.#answerWithinMs + 1_000;
    return { ...request, timeout: most, signal: AbortSignal.timeout(most) };
  }

  /** @throws RegistryRefusal; Error when there was no answer */
  async #ask(request: () => Promise<Answer>): Promise<Answer> {
    while (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#free -= 1;
    try {
      return await within(
        this.#answerWithinMs,
        request(),
        () => new Error(`it did not answer within ${this.#answerWithinMs} ms`),
      );
    } catch (error) {
      const { status } = error as { status?: number };
      if (typeof status === "number" && status >= 400) throw new RegistryRefusal(status, messageOf(error));
      throw error;
    } finally {
      this.#free += 1;
      this.#waiting.shift()?.();
    }
  }
}

function notGiven(what: string, cause: unknown): FraudstreamError {
  const denied = cause instanceof RegistryRefusal && (cause.status === 401 || cause.status === 403);
  const advice = denied
    ? "; SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD must name a user who may read schemas"
    : "";
  return new FraudstreamError(
    "schema_registry_unreachable",
    `the schema registry did not give ${what}: ${messageOf(cause)}${advice}`,
    { cause },
  );
}
