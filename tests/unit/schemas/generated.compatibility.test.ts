/** Versions side by side: what version N writes is read by N+1, and the other way round. */
import { createHash } from "node:crypto";
import avro from "avsc";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { RowBinaryWriter } from "../../../infra/clickhouse/row-binary.js";
import { Schemas } from "../../../infra/kafka/schemas.js";
import { createLogger } from "../../../infra/logging.js";
import { LabelReader } from "../../../schemas/label-reader.js";
import { predictionRows } from "../../../pipelines/sink/rows/avro-rows.js";
import { labelRows } from "../../../pipelines/sink/rows/label-rows.js";
import { transactionRows } from "../../../pipelines/sink/rows/transaction-rows.js";
import type { AvroSchema } from "../../../schemas/avro-cursor.js";
import { FIXED_SCHEMAS, WIRE_HEAD_BYTES, type SchemaKey, type SubjectName } from "../../../schemas/wire-format.js";
import { fetchedRecords } from "../../support/fetched-records.js";
import { wireValue } from "../../support/transactions.js";
import { EVENT_TIME, collector, wired } from "./collected.js";

interface Field {
  name: string;
  type: unknown;
  default?: unknown;
}
interface Version {
  id: number;
  subject: SubjectName;
  fields: Field[];
  name: string;
  namespace: string;
  type: "record";
}
const NEXT = 2_000_000;
const versions = [...FIXED_SCHEMAS].map(([id, { subject, schema }]) => ({
  ...(schema as unknown as Version),
  id,
  subject,
}));

/** The next version: fields that may be absent, at the beginning, in the middle and at the end. */
function next({ fields, name, namespace }: Version): {
  type: "record";
  name: string;
  namespace: string;
  fields: Field[];
} {
  const middle = Math.floor(fields.length / 2);
  const added = (field: string, type: unknown, fallback: unknown): Field => ({ name: field, type, default: fallback });
  return {
    type: "record",
    name,
    namespace,
    fields: [
      added("channel", ["null", "string"], null),
      ...fields.slice(0, middle),
      added("weights", { type: "array", items: "double" }, []),
      ...fields.slice(middle),
      added("trace", "string", ""),
    ],
  };
}

const typeOf = (schema: object): avro.Type => avro.Type.forSchema(schema as avro.Schema);
/** A value that fits a schema; times and ids are such that readers take them. */
function value(version: Version): Record<string, unknown> {
  const known: Record<string, unknown> = {
    event_time: EVENT_TIME,
    label_time: EVENT_TIME,
    scored_at: EVENT_TIME,
    currency: "EUR",
    transaction_id: "t-1",
    card_id: "c-1",
    merchant_id: "m-1",
    amount: 12.5,
    attributes: { v1: 2 },
    epoch: 7,
    source_offset: 3,
    source_partition: 1,
    score: 0.5,
    scoring_ms: 1.5,
    features: [1],
    reasons: null,
  };
  const random = JSON.parse(JSON.stringify(typeOf(version).random())) as Record<string, unknown>;
  return version.subject === "control" ||
    version.subject === "workers" ||
    version.subject === "users" ||
    version.subject === "merchantBuckets"
    ? (typeOf(version).fromBuffer(typeOf(version).toBuffer(typeOf(version).random())) as Record<string, unknown>)
    : {
        ...random,
        ...Object.fromEntries(version.fields.flatMap(({ name }) => (name in known ? [[name, known[name]]] : []))),
      };
}

async function schemasWith(id: number, schema: object): Promise<Schemas> {
  const schemasDir = await mkdtemp(join(tmpdir(), "fraudstream-schemas-"));
  onTestFinished(() => rm(schemasDir, { recursive: true, force: true }));
  await writeFile(join(schemasDir, `${id}.avsc`), JSON.stringify(schema));
  return new Schemas({ schemaRegistryUrl: null, schemasDir });
}

describe.each(versions.map((version) => [version.subject, version] as const))("%s", (subject, version) => {
  const newer = next(version);
  const written = value(version);
  const more = { ...written, channel: "online", weights: [1, 2.5], trace: "x" };

  test("of the next version is read by this one, as if nothing had been added", async () => {
    const schemas = await schemasWith(NEXT, newer);
    expect(await schemas.decode(subject, wireValue(more, NEXT, newer))).toEqual(
      await schemas.decode(subject, wireValue(written, version.id, version)),
    );
  });

  test("of this version is read by the next one, which takes its defaults", () => {
    const bytes = typeOf(version).toBuffer(written);
    const reader = typeOf(newer);
    const read = reader.fromBuffer(bytes, reader.createResolver(typeOf(version))) as Record<string, unknown>;
    expect({ ...read }).toEqual({
      ...(typeOf(version).fromBuffer(bytes) as object),
      channel: null,
      weights: [],
      trace: "",
    });
  });
});

describe("without objects", () => {
  const versionOf = (subject: SubjectName): Version =>
    versions.find((version) => version.subject === subject) as Version;
  const pair = (subject: SubjectName): { now: Buffer; later: Buffer; newer: object } => {
    const version = versionOf(subject);
    const newer = next(version);
    const written = value(version);
    return {
      now: wireValue(written, version.id, version),
      later: wireValue({ ...written, channel: "online", weights: [1, 2.5], trace: "x" }, NEXT, newer),
      newer,
    };
  };

  test("a worker reads a newer transaction, and what was added as attributes", () => {
    const { now, later, newer } = pair("transactions");
    const { attributes, ...fields } = collector(newer as AvroSchema)(wired(later.subarray(WIRE_HEAD_BYTES)));
    const { attributes: before, ...same } = collector(versionOf("transactions") as unknown as AvroSchema)(
      wired(now.subarray(WIRE_HEAD_BYTES)),
    );
    expect(fields).toEqual(same);
    expect([...attributes]).toEqual(expect.arrayContaining([...before, ["channel", "online"], ["trace", "x"]]));
  });

  test.each([
    ["transactions", transactionRows],
    ["predictions", predictionRows],
    ["labels", labelRows],
  ] as const)("the sink stores newer %s as it stores today's", async (subject, rowsOf) => {
    const { now, later, newer } = pair(subject);
    const lookup = (id: SchemaKey): Promise<AvroSchema | null> =>
      Promise.resolve(id === NEXT ? (newer as AvroSchema) : (FIXED_SCHEMAS.get(Number(id))?.schema ?? null));
    const rows = rowsOf({
      lookup,
      backoff: { firstMs: 1, mostMs: 1, signal: new AbortController().signal },
      log: createLogger({ logLevel: "silent" }, "test"),
    });
    const stored = await Promise.all(
      [now, later].map(async (bytes) => {
        const records = fetchedRecords({ topic: subject }, [{ value: bytes, timestamp: EVENT_TIME }]);
        const out = new RowBinaryWriter(1_024);
        await rows.prepare(records, 0);
        expect(rows.write(records, 0, out)).toBeNull();
        return Buffer.from(out.written());
      }),
    );
    // Of a transaction, what was added is an attribute: it is stored, too.
    if (subject === "transactions") expect(stored[1].length).toBeGreaterThan(stored[0].length);
    else expect(stored[1]).toEqual(stored[0]);
  });

  test("the merchants role reads a newer label", () => {
    const { later, newer } = pair("labels");
    const reader = new LabelReader();
    reader.learn(NEXT, newer as AvroSchema);
    expect(reader.read(later, 0, later.length)).toBe(true);
    expect([later.toString("utf8", reader.cardAt, reader.cardAt + reader.cardLength), reader.labelTime]).toEqual([
      "c-1",
      EVENT_TIME,
    ]);
  });
});

// Without a registry a reader knows a schema by its id alone: to change one under its id breaks every reader of the
// version before. A changed schema gets a new id in schemas/wire-format.ts, and the old one stays; then a line is added
// here.
test("the schema of a fixed id never changes", () => {
  const fingerprints = Object.fromEntries(
    versions.map(({ id, fields, name }) => [
      id,
      createHash("sha256")
        .update(JSON.stringify([name, fields.map(bare)]))
        .digest("hex")
        .slice(0, 16),
    ]),
  );
  expect(fingerprints).toEqual({
    1_000_001: "c63168d19a97fefa",
    1_000_002: "97bbc23afba81c5d",
    1_000_003: "d4ce3ffe00520457",
    1_000_004: "3470750bea7d00f2",
    1_000_005: "a07311b0d6d2613e",
    1_000_006: "1ff4a289742d1002",
    1_000_007: "920a2643bb40c3fa",
    1_000_105: "b56cf53a170ae91f",
    1_000_205: "e4dcb50d4360a8fc",
  });
});

/** A schema without what people wrote into it for each other. */
function bare(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(bare);
  if (typeof schema !== "object" || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(schema)
      .filter(([key]) => key !== "doc")
      .map(([key, part]) => [key, bare(part)]),
  );
}
