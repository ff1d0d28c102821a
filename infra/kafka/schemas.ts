import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createRequire } from "node:module";
import { SchemaRegistry, SchemaType } from "@kafkajs/confluent-schema-registry";
import type { Type } from "avsc";
import type { AvroSchema } from "../../schemas/avro-cursor.js";
import { FraudstreamError, UsageError, messageOf } from "../../schemas/errors.js";
import { FIXED_SCHEMAS, WIRE_HEAD_BYTES, schemaIdOf, writeWireHead, type SubjectName } from "../../schemas/wire-format.js";
import type { Config } from "../config.js";
import { withReferences } from "./schema-references.js";

// avsc is CommonJS whose exports Node can't name.
const avro = createRequire(import.meta.url)("avsc") as { Type: { forSchema(schema: AvroSchema): Type } };

type Middleware = NonNullable<ConstructorParameters<typeof SchemaRegistry>[0]["middlewares"]>[number];

/** How long an id that nobody knows stays unknown before it is asked for again. */
const UNKNOWN_FOR_MS = 30_000;

/**
 * Writer schemas by id: the fixed ones, those in SCHEMAS_DIR (`<id>.avsc`), and the registry's. Without a registry our own
 * records carry the fixed ids, with one the ids that the registry gave.
 */
export class Schemas {
  readonly #known = new Map([...FIXED_SCHEMAS].map(([id, { schema }]) => [id, schema]));
  readonly #unknownUntil = new Map<number, number>();
  readonly #ids = new Map<SubjectName, number>([...FIXED_SCHEMAS].map(([id, { subject }]) => [subject, id]));
  readonly #codecs = new Map<string, Type>();
  readonly #schemasDir: string | null;
  readonly #registry: SchemaRegistry | null;
  /** The texts of schemas that came with the request under way: the one asked for, then those that it refers to. */
  #received: string[] = [];
  #loading: Promise<unknown> = Promise.resolve();

  constructor(config: Pick<Config, "schemaRegistryUrl" | "schemasDir">) {
    this.#schemasDir = config.schemasDir;
    // The registry's client keeps avsc types, which drop logical types; this sees each schema as it was written.
    const middleware: Middleware = () => ({
      response: async (next) => {
        const answer = await next();
        const { schema, schemaType = "AVRO" } = answer.data<{ schema?: unknown; schemaType?: string } | null>() ?? {};
        if (typeof schema === "string" && schemaType === "AVRO") this.#received.push(schema);
        return answer;
      },
    });
    this.#registry =
      config.schemaRegistryUrl === null
        ? null
        : new SchemaRegistry({ host: config.schemaRegistryUrl, retry: { retries: 3 }, middlewares: [middleware] });
  }

  /**
   * Registers our schemas, where there is a registry. To be called once at the start.
   *
   * @throws UsageError `schema_registry` when it can't be reached or refuses a schema
   */
  async register(topics: Record<SubjectName, string>): Promise<void> {
    if (this.#registry === null) return;
    for (const { subject, schema } of FIXED_SCHEMAS.values()) {
      try {
        const { id } = await this.#registry.register({ type: SchemaType.AVRO, schema: JSON.stringify(schema) }, { subject: `${topics[subject]}-value` });
        this.#ids.set(subject, id);
        this.#known.set(id, schema);
      } catch (cause) {
        throw new UsageError("schema_registry", `SCHEMA_REGISTRY_URL: the registry did not take the schema of ${topics[subject]}: ${messageOf(cause)}`, { cause });
      }
    }
  }

  /** The schema id that our records of a kind carry. */
  idOf(subject: SubjectName): number {
    return this.#ids.get(subject) as number;
  }

  /** A schema that is known already. */
  get(id: number): AvroSchema | undefined {
    return this.#known.get(id);
  }

  /**
   * The schema of an id, or null when nobody knows it.
   *
   * @throws FraudstreamError `schema_registry_unreachable` (retriable)
   */
  async load(id: number): Promise<AvroSchema | null> {
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    if ((this.#unknownUntil.get(id) ?? 0) > Date.now()) return null;
    const schema = (await this.#fromDirectory(id)) ?? (await this.#fromRegistry(id));
    if (schema === null) this.#unknownUntil.set(id, Date.now() + UNKNOWN_FOR_MS);
    else this.#known.set(id, schema);
    return schema;
  }

  /** Encodes one value of ours, off the hot path. */
  encode(subject: SubjectName, value: unknown): Buffer {
    const id = this.idOf(subject);
    const body = this.#codec(subject, this.#known.get(id) as AvroSchema).toBuffer(value);
    const bytes = Buffer.allocUnsafe(WIRE_HEAD_BYTES + body.length);
    bytes.set(body, writeWireHead(bytes, 0, id));
    return bytes;
  }

  /**
   * Decodes one value written with any compatible schema, off the hot path. Loads its schema when need be.
   *
   * @throws FraudstreamError `undecodable`
   */
  async decode(subject: SubjectName, bytes: Buffer): Promise<unknown> {
    const id = schemaIdOf(bytes, 0, bytes.length);
    const writer = id === null ? null : await this.load(id);
    if (id === null || writer === null) throw new FraudstreamError("undecodable", `a value of ${subject} has no known schema`);
    try {
      const ours = this.#codec(subject, this.#known.get(this.idOf(subject)) as AvroSchema);
      if (id === this.idOf(subject)) return ours.fromBuffer(bytes.subarray(WIRE_HEAD_BYTES));
      const theirs = this.#codec(`${subject}/${id}`, writer);
      return ours.fromBuffer(bytes.subarray(WIRE_HEAD_BYTES), ours.createResolver(theirs));
    } catch (cause) {
      throw new FraudstreamError("undecodable", `a value of ${subject} does not fit its schema: ${messageOf(cause)}`, { cause });
    }
  }

  #codec(key: string, schema: AvroSchema): Type {
    let codec = this.#codecs.get(key);
    if (codec === undefined) {
      codec = avro.Type.forSchema(schema);
      this.#codecs.set(key, codec);
    }
    return codec;
  }

  async #fromDirectory(id: number): Promise<AvroSchema | null> {
    if (this.#schemasDir === null) return null;
    const file = join(this.#schemasDir, `${id}.avsc`);
    let text: string;
    try {
      text = await readFile(file, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw new FraudstreamError("schema_file", `${file} can't be read: ${messageOf(error)}`, { retriable: true, cause: error });
    }
    try {
      return JSON.parse(text) as AvroSchema;
    } catch (cause) {
      throw new UsageError("schema_file", `${file} is not JSON: ${messageOf(cause)}`, { cause });
    }
  }

  /** One at a time, so that what was received belongs to the schema asked for. */
  #fromRegistry(id: number): Promise<AvroSchema | null> {
    const registry = this.#registry;
    if (registry === null) return Promise.resolve(null);
    const loaded = this.#loading.then(async () => {
      // Asked for twice at once: the registry's client would answer the second from its cache.
      const known = this.#known.get(id);
      if (known !== undefined) return known;
      this.#received = [];
      try {
        await registry.getSchema(id);
      } catch (error) {
        const { status } = error as { status?: number };
        if (status === 404) return null;
        if (status !== undefined) throw new FraudstreamError("schema_registry_unreachable", `the schema registry did not give schema ${id}: ${messageOf(error)}`, { retriable: true, cause: error });
        // The client could not make a type of it. Whether it can be read is for our readers to say.
      }
      const schema = wholeSchema(this.#received);
      if (schema !== null) this.#known.set(id, schema);
      return schema;
    });
    this.#loading = loaded.catch(() => {});
    return loaded;
  }
}

/** The first of several schemas, with what it refers to; null: it is no JSON, or there is none. */
function wholeSchema(texts: readonly string[]): AvroSchema | null {
  try {
    const [schema = null, ...referenced] = texts.map((text) => JSON.parse(text) as AvroSchema);
    return schema === null ? null : withReferences(schema, referenced);
  } catch {
    return null;
  }
}
