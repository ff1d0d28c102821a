import { Agent as HttpsAgent } from "node:https";
import type { Agent } from "node:http";
import { SchemaRegistry } from "@kafkajs/confluent-schema-registry";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { SchemaKey } from "../../schemas/wire-format.js";
import { within } from "../within.js";

/** What a registry says of a schema. */
export interface RegistrySchema {
  schema: string;
  schemaType?: string;
  references?: { name: string; subject: string; version: number }[];
}
interface Version extends RegistrySchema { id: number; version: number }

export interface RegistryClientOptions {
  url: string;
  auth: { username: string; password: string } | null;
  /** PEM text of whom to trust with an https URL; null: the authorities that Node trusts. */
  tlsCa: string | null;
}

/** A request that the registry answered with an error status. */
export class RegistryRefusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The requests of the registry's client, which its own methods wrap with more than is wanted here: types of avsc, changes of policy. */
interface Api {
  Schema: { find(request: object): Promise<Answer> };
  Subject: { register(request: object): Promise<Answer>; registered(request: object): Promise<Answer>; latestVersion(request: object): Promise<Answer>; version(request: object): Promise<Answer> };
}
interface Answer { data<T>(): T }

const ANSWER_WITHIN_MS = 5_000;
/** Requests under way at a time. */
const MOST_AT_ONCE = 8;

/** Asks a schema registry. Every request has a limit. */
export class RegistryClient {
  readonly #api: Api;
  readonly #agent: Agent | undefined;
  #free = MOST_AT_ONCE;
  readonly #waiting: (() => void)[] = [];

  constructor({ url, auth, tlsCa }: RegistryClientOptions) {
    this.#agent = tlsCa === null ? undefined : new HttpsAgent({ ca: tlsCa });
    const registry = new SchemaRegistry({ host: url, retry: { retries: 2 }, ...(auth === null ? {} : { auth }), ...(this.#agent === undefined ? {} : { agent: this.#agent }) });
    this.#api = (registry as unknown as { api: Api }).api;
  }

  /** The schema of an id or a GUID; null: there is none. @throws FraudstreamError `schema_registry_unreachable` (retriable) */
  async schema(key: SchemaKey): Promise<RegistrySchema | null> {
    const request = typeof key === "number" ? { id: key } : { path: `/schemas/guids/${encodeURIComponent(key)}` };
    return this.#unless404(`schema ${key}`, () => this.#api.Schema.find(this.#limited(request)));
  }

  /** A version of a subject; null: there is none. @throws FraudstreamError `schema_registry_unreachable` (retriable) */
  async version(subject: string, version: number | "latest"): Promise<Version | null> {
    return this.#unless404(`${subject} version ${version}`, () => this.#api.Subject.version(this.#limited({ subject, version })));
  }

  /** The id under which a subject has a schema; null: it has it not. @throws RegistryRefusal */
  async lookup(subject: string, schema: string): Promise<number | null> {
    try {
      return (await this.#ask(() => this.#api.Subject.registered(this.#limited({ subject, body: { schema } })))).data<{ id: number }>().id;
    } catch (error) {
      if (error instanceof RegistryRefusal && error.status === 404) return null;
      throw error;
    }
  }

  /** Registers a schema and leaves the registry's policy as it is. @throws RegistryRefusal */
  async register(subject: string, schema: string): Promise<number> {
    return (await this.#ask(() => this.#api.Subject.register(this.#limited({ subject, body: { schema } })))).data<{ id: number }>().id;
  }

  async #unless404<T>(what: string, request: () => Promise<Answer>): Promise<T | null> {
    try {
      return (await this.#ask(request)).data<T | null>();
    } catch (error) {
      if (error instanceof RegistryRefusal && error.status === 404) return null;
      throw new FraudstreamError("schema_registry_unreachable", `the schema registry did not give ${what}: ${messageOf(error)}`, { retriable: true, cause: error });
    }
  }

  #limited(request: object): object {
    return { ...request, timeout: ANSWER_WITHIN_MS, signal: AbortSignal.timeout(ANSWER_WITHIN_MS) };
  }

  /** @throws RegistryRefusal; Error when there was no answer */
  async #ask(request: () => Promise<Answer>): Promise<Answer> {
    while (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#free -= 1;
    try {
      return await within(ANSWER_WITHIN_MS, request(), () => new Error(`it did not answer within ${ANSWER_WITHIN_MS} ms`));
    } catch (error) {
      const { status } = error as { status?: number };
      // The client gives requests that got no answer the status 400, without the registry's words.
      if (typeof status === "number" && status >= 400) throw new RegistryRefusal(status, messageOf(error));
      throw error;
    } finally {
      this.#free += 1;
      this.#waiting.shift()?.();
    }
  }
}
