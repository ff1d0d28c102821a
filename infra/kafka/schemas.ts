import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { RETRY, pauseBefore } from "../async/retry.js";
import type { Type } from "avsc";
import type { AvroSchema } from "../../schemas/avro-cursor.js";
import { FraudstreamError, UsageError, messageOf } from "../../schemas/errors.js";
import { parseProto } from "../../schemas/proto-file.js";
import { PLAIN_SHAPE, type RecordShape } from "../../schemas/record-shape.js";
import {
  FIXED_SCHEMAS,
  WIRE_HEAD_BYTES,
  schemaIdOf,
  writeWireHead,
  type SchemaKey,
  type SubjectName,
} from "../../schemas/wire-format.js";
import {
  JsonSchemaWriter,
  ProtobufWriter,
  UnavailableWriter,
  UnreadableWriter,
  isAvro,
  type WriterSchema,
} from "../../schemas/writer-schema.js";
import type { Config } from "../config/config.js";
import type { Conditions } from "../health/conditions.js";
import { registeredId } from "./register-schemas.js";
import { RegistryClient, RegistryRefusal, type RegistrySchema } from "./registry-client.js";
import { RegistryHealth } from "./registry-health.js";
import { withReferences } from "./schema-references.js";
import { UnknownSchemas } from "./unknown-schemas.js";

// avsc is CommonJS, and Node can't detect its exports.
const avro = createRequire(import.meta.url)("avsc") as { Type: { forSchema(schema: AvroSchema): Type } };

type SchemasConfig = Pick<Config, "schemaRegistryUrl" | "schemasDir"> &
  Partial<Pick<Config, "schemaRegistryAuth" | "schemaRegistryTlsCa" | "recordShapes">>;

export interface SchemasOptions {
  /**
   * How long to wait for a schema that the registry doesn't know yet, milliseconds: its replicas learn of it later.
   * @default 5_000
   */
  patienceMs?: number;
  /** How long a response of the registry may take, milliseconds. @default 5_000 */
  answerWithinMs?: number;
  /** Where to report a registry that doesn't answer, or refuses this role. @default nowhere */
  conditions?: Conditions;
}

const PATIENCE_MS = 5_000;
const MOST_REFERENCES = 100;
const MOST_UNAVAILABLE = 1_000;
/** Registries use signed 32-bit numbers: larger ids don't exist. */
const LARGEST_ID = 2 ** 31 - 1;

/**
 * Writer schemas by id: the fixed ones, those in SCHEMAS_DIR (`<id>.avsc`, `.json` or `.proto`), and the registry's.
 * Our own records carry the fixed ids without a registry, and with one, the ids that the registry gave.
 */
export class Schemas {
  /** How producers' records hold our fields. */
  readonly shapes: { transactions: RecordShape; labels: RecordShape };
  readonly #known = new Map<SchemaKey, WriterSchema>([...FIXED_SCHEMAS].map(([id, { schema }]) => [id, schema]));
  readonly #unknown: UnknownSchemas;
  readonly #loading = new Map<SchemaKey, Promise<WriterSchema | null>>();
  readonly #ids = new Map<SubjectName, number>([...FIXED_SCHEMAS].map(([id, { subject }]) => [subject, id]));
  readonly #codecs = new Map<string, Type>();
  readonly #schemasDir: string | null;
  readonly #registry: RegistryClient | null;
  readonly #health: RegistryHealth | null;
  /** Why the registry didn't give a schema that was requested a moment ago. */
  readonly #unavailable = new Map<SchemaKey, UnavailableWriter>();

  constructor(config: SchemasConfig, { patienceMs = PATIENCE_MS, answerWithinMs, conditions }: SchemasOptions = {}) {
    const { schemaRegistryUrl: url, schemaRegistryAuth: auth = null, schemaRegistryTlsCa: tlsCa = null } = config;
    this.shapes = config.recordShapes ?? { transactions: PLAIN_SHAPE, labels: PLAIN_SHAPE };
    this.#schemasDir = config.schemasDir;
    this.#registry =
      url === null
        ? null
        : new RegistryClient({ url, auth, tlsCa, ...(answerWithinMs !== undefined && { answerWithinMs }) });
    this.#health = this.#registry && new RegistryHealth(this.#registry, conditions);
    this.#unknown = new UnknownSchemas(this.#registry === null ? 0 : patienceMs);
  }

  /**
   * Registers our schemas if there is a registry. Must be called once at the start.
   *
   * @throws UsageError `schema_registry` if it can't be reached, or has no schema that our records can carry
   */
  async register(topics: Record<SubjectName, string>): Promise<void> {
    if (this.#registry === null) return;
    for (const { subject, schema } of FIXED_SCHEMAS.values()) {
      const id = await registeredId(this.#registry, topics[subject], schema);
      this.#ids.set(subject, id);
      this.#known.set(id, schema);
      this.#health?.gave(id);
    }
  }

  /** The schema id that our records of a kind carry. */
  idOf(subject: SubjectName): number {
    return this.#ids.get(subject) as number;
  }

  /** A schema that is already known. */
  get(key: SchemaKey): WriterSchema | undefined {
    return this.#known.get(key);
  }

  /**
   * The schema of an id, or null if nobody knows it. A schema that the registry doesn't know yet, or fails to give
   * while it answers other requests, is retried for a short time, and then not for a while: no single schema holds its
   * records up for good.
   *
   * @throws FraudstreamError `schema_registry_unreachable` (retriable): the registry answers nothing, so that nobody
   *   can tell
   */
  async load(key: SchemaKey): Promise<WriterSchema | null> {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#unknown.has(key)) return this.#unavailable.get(key) ?? null;
    let loading = this.#loading.get(key);
    if (loading === undefined) {
      loading = this.#find(key).finally(() => this.#loading.delete(key));
      this.#loading.set(key, loading);
    }
    return loading;
  }

  async #find(key: SchemaKey): Promise<WriterSchema | null> {
    const deadline = this.#unknown.deadline(key, this.#loading.size);
    this.#unavailable.delete(key);
    let schema: WriterSchema | null = null;
    for (let tries = 1; ; tries++) {
      schema = (await this.#fromDirectory(key)) ?? (await this.#unlessFailing(key));
      if (schema !== null && !(schema instanceof UnavailableWriter)) {
        this.#known.set(key, schema);
        if (this.#registry !== null) this.#health?.gave(key);
        return schema;
      }
      const pause = pauseBefore(RETRY.unknownSchema, tries);
      if (Date.now() + pause > deadline || (typeof key === "number" && key > LARGEST_ID)) break;
      await sleep(pause);
    }
    this.#unknown.add(key);
    if (schema !== null) this.#keepUnavailable(key, schema);
    return schema;
  }

  /** What the registry has; or why it doesn't give that while it gives other things. */
  async #unlessFailing(key: SchemaKey): Promise<WriterSchema | null> {
    try {
      return await this.#fromRegistry(key);
    } catch (error) {
      if (
        !(error instanceof FraudstreamError) ||
        !error.retriable ||
        this.#health === null ||
        !(await this.#health.answers())
      )
        throw error;
      // Not an id for the registry, or no longer one.
      if (error.cause instanceof RegistryRefusal && error.cause.status === 400) return null;
      return new UnavailableWriter(`${messageOf(error)}, while it answers otherwise`);
    }
  }

  #keepUnavailable(key: SchemaKey, schema: WriterSchema): void {
    if (!(schema instanceof UnavailableWriter)) return;
    if (this.#unavailable.size >= MOST_UNAVAILABLE) this.#unavailable.clear();
    this.#unavailable.set(key, schema);
  }

  /** Encodes a value of ours, off the hot path. */
  encode(subject: SubjectName, value: unknown): Buffer {
    const id = this.idOf(subject);
    return framed(id, this.#codec(subject, this.#known.get(id) as AvroSchema).toBuffer(value));
  }

  /**
   * Encodes a value of ours in the first schema that its subject had, which every version knows by its fixed id.
   *
   * @returns null if a registry has the newest schema for every version
   */
  encodeFirst(subject: SubjectName, value: unknown): Buffer | null {
    if (this.#registry !== null) return null;
    const [id, { schema }] = [...FIXED_SCHEMAS].find(([, fixed]) => fixed.subject === subject) as [
      number,
      { schema: AvroSchema },
    ];
    return framed(id, this.#codec(`${subject}/${id}`, schema).toBuffer(value));
  }

  /**
   * Decodes a value written with any compatible schema, off the hot path. Loads its schema if necessary.
   *
   * @throws FraudstreamError `undecodable`
   */
  async decode(subject: SubjectName, bytes: Buffer): Promise<unknown> {
    const id = schemaIdOf(bytes, 0, bytes.length);
    const writer = id === null ? null : await this.load(id);
    if (id === null || writer === null || !isAvro(writer))
      throw new FraudstreamError("undecodable", `a value of ${subject} has no known schema`);
    try {
      const ours = this.#codec(subject, this.#known.get(this.idOf(subject)) as AvroSchema);
      if (id === this.idOf(subject)) return ours.fromBuffer(bytes.subarray(WIRE_HEAD_BYTES));
      const theirs = this.#codec(`${subject}/${id}`, writer);
      return ours.fromBuffer(bytes.subarray(WIRE_HEAD_BYTES), ours.createResolver(theirs));
    } catch (cause) {
      throw new FraudstreamError("undecodable", `a value of ${subject} does not fit its schema: ${messageOf(cause)}`, {
        cause,
      });
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

  async #fromDirectory(key: SchemaKey): Promise<WriterSchema | null> {
    if (this.#schemasDir === null || typeof key === "string") return null;
    const avsc = await readIfThere(join(this.#schemasDir, `${key}.avsc`));
    if (avsc !== null) return parsedFile(`${key}.avsc`, () => JSON.parse(avsc) as AvroSchema);
    const json = await readIfThere(join(this.#schemasDir, `${key}.json`));
    if (json !== null) return parsedFile(`${key}.json`, () => new JsonSchemaWriter(JSON.parse(json)));
    const proto = await readIfThere(join(this.#schemasDir, `${key}.proto`));
    return proto === null ? null : parsedFile(`${key}.proto`, () => new ProtobufWriter(parseProto(proto)));
  }

  async #fromRegistry(key: SchemaKey): Promise<WriterSchema | null> {
    const registry = this.#registry;
    if (registry === null || (typeof key === "number" && key > LARGEST_ID)) return null;
    const found = await registry.schema(typeof key === "string" ? key.split("#")[0] : key);
    return found === null ? null : toWriter(found, await this.#referredTo(registry, found));
  }

  /** The texts of the schemas that a schema refers to, and of those that these refer to. */
  async #referredTo(registry: RegistryClient, { references = [] }: RegistrySchema): Promise<Referred[]> {
    const texts: Referred[] = [];
    const seen = new Set<string>();
    const open = [...references];
    for (
      let reference = open.shift();
      reference !== undefined && seen.size < MOST_REFERENCES;
      reference = open.shift()
    ) {
      const name = `${reference.subject} ${reference.version}`;
      if (seen.has(name)) continue;
      seen.add(name);
      const found = await registry.version(reference.subject, reference.version);
      if (found === null)
        throw new FraudstreamError(
          "schema_registry_unreachable",
          `the schema registry doesn't have ${reference.subject} version ${reference.version}, to which the ` +
            "schema refers",
        );
      texts.push({ name: reference.name, text: found.schema });
      open.push(...(found.references ?? []));
    }
    return texts;
  }
}

/** A schema that another one refers to, by the name that it uses. */
interface Referred {
  name: string;
  text: string;
}

/** A registry's schema as our readers use it; one that can't be used says why. */
function toWriter({ schema, schemaType = "AVRO" }: RegistrySchema, referenced: readonly Referred[]): WriterSchema {
  try {
    if (schemaType === "AVRO")
      return withReferences(
        JSON.parse(schema) as AvroSchema,
        referenced.map(({ text }) => JSON.parse(text) as AvroSchema),
      );
    if (schemaType === "JSON")
      return new JsonSchemaWriter(
        JSON.parse(schema),
        new Map(referenced.map(({ name, text }) => [name, JSON.parse(text) as unknown])),
      );
    if (schemaType === "PROTOBUF")
      return new ProtobufWriter(
        parseProto(
          schema,
          referenced.map(({ text }) => text),
        ),
      );
    return new UnreadableWriter(`it is of the type ${schemaType}; AVRO, JSON and PROTOBUF are read`);
  } catch (error) {
    return new UnreadableWriter(`it is of the type ${schemaType} and can't be read as such: ${messageOf(error)}`);
  }
}

async function readIfThere(file: string): Promise<string | null> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new FraudstreamError("schema_file", `${file} can't be read: ${messageOf(error)}`, {
      retriable: true,
      cause: error,
    });
  }
}

function parsedFile(file: string, parse: () => WriterSchema): WriterSchema {
  try {
    return parse();
  } catch (cause) {
    throw new UsageError("schema_file", `SCHEMAS_DIR: ${file} can't be read: ${messageOf(cause)}`, { cause });
  }
}

/** A value in the wire format. */
function framed(id: number, body: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(WIRE_HEAD_BYTES + body.length);
  bytes.set(body, writeWireHead(bytes, 0, id));
  return bytes;
}
