import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import avsc from "avsc";
import { describe, expect, onTestFinished, test } from "vitest";
import { Conditions } from "../../../../infra/health/conditions.js";
import { createLogger } from "../../../../infra/logging.js";
import { withReferences } from "../../../../infra/kafka/schema-references.js";
import { Schemas } from "../../../../infra/kafka/schemas.js";
import type { AvroObject, AvroSchema } from "../../../../schemas/avro-cursor.js";
import { UsageError } from "../../../../schemas/errors.js";
import { FIXED_SCHEMAS, WIRE_HEAD_BYTES, schemaIdOf, writeWireHead } from "../../../../schemas/wire-format.js";
import { subjectTopics, topicsFor } from "../../../../schemas/topics.js";
import {
  JsonSchemaWriter,
  ProtobufWriter,
  UnavailableWriter,
  UnreadableWriter,
} from "../../../../schemas/writer-schema.js";
import { learnSchemas } from "../../../../pipelines/transactions/decode-transactions.js";
import { TransactionFields, TransactionReader } from "../../../../schemas/transaction-reader.js";
import { fetchedRecords } from "../../../support/fetched-records.js";
import { registryServer } from "../../../support/registry-server.js";

const LABEL = { transaction_id: "t", card_id: "c", is_fraud: true, label_time: Date.UTC(2026, 0, 1) };
const TOPICS = subjectTopics(topicsFor("test.", 1));
const PAYMENT = {
  type: "record",
  name: "Payment",
  fields: [
    { name: "at", type: { type: "long", logicalType: "timestamp-micros" } },
    { name: "price", type: ["null", { type: "bytes", logicalType: "decimal", precision: 9, scale: 2 }] },
  ],
};

describe("without a registry", () => {
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });

  test("our schemas have fixed ids, and values come back from their bytes", async () => {
    for (const [id, { subject, schema }] of FIXED_SCHEMAS) {
      // Of several ids of a subject, records are written with the last.
      expect(schemas.idOf(subject)).toBe([...FIXED_SCHEMAS].findLast(([, other]) => other.subject === subject)?.[0]);
      expect(await schemas.load(id)).toBe(schema);
    }
    await schemas.register(TOPICS);
    const bytes = schemas.encode("labels", LABEL);
    expect(schemaIdOf(bytes, 0, bytes.length)).toBe(1_000_003);
    expect(await schemas.decode("labels", bytes)).toEqual(LABEL);
  });

  test("an id that nobody knows is null; values without a schema, or that don't fit it, are undecodable", async () => {
    expect(await schemas.load(7)).toBeNull();
    const bytes = schemas.encode("labels", LABEL);
    for (const value of [
      Buffer.alloc(0),
      Buffer.from("{}"),
      Buffer.from([0, 0, 0, 0, 7, 1]),
      bytes.subarray(0, -1),
      Buffer.concat([bytes, Buffer.from([1])]),
      Buffer.concat([schemas.encode("control", EVENT).subarray(0, 5), bytes.subarray(5)]),
    ]) {
      await expect(schemas.decode("labels", value)).rejects.toMatchObject({ code: "undecodable", retriable: false });
    }
  });

  test("a directory holds further schemas", async () => {
    const folder = mkdtempSync(join(tmpdir(), "fraudstream-schemas-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, "42.avsc"), JSON.stringify(PAYMENT));
    writeFileSync(join(folder, "43.avsc"), "{");
    const withFiles = new Schemas({ schemaRegistryUrl: null, schemasDir: folder });
    expect(await withFiles.load(42)).toEqual(PAYMENT);
    expect(await withFiles.load(44)).toBeNull();
    const broken = withFiles.load(43);
    await expect(broken).rejects.toBeInstanceOf(UsageError);
    await expect(broken).rejects.toThrow("43.avsc");
  });
});

const EVENT = { key: "deployment", base: -1, at: 0, who: "x", event: { "fraudstream.JobCancelled": {} } };

describe("with a registry", () => {
  test("our schemas are registered under their topics, and records carry the registry's ids", async () => {
    const registry = await registryServer();
    registry.schemas.set(500, { schema: '"string"' });
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    await schemas.register(TOPICS);
    expect([...registry.subjects.keys()]).toEqual([
      ...new Set([...FIXED_SCHEMAS.values()].map(({ subject }) => `${TOPICS[subject]}-value`)),
    ]);
    const id = schemas.idOf("labels");
    expect(id).toBe(registry.subjects.get("test.labels-value")?.[0]);
    expect(id).toBeGreaterThan(500);
    const bytes = schemas.encode("labels", LABEL);
    expect(schemaIdOf(bytes, 0, bytes.length)).toBe(id);
    // Records from before the registry stay readable.
    const old = new Schemas({ schemaRegistryUrl: null, schemasDir: null }).encode("labels", LABEL);
    expect([await schemas.decode("labels", bytes), await schemas.decode("labels", old)]).toEqual([LABEL, LABEL]);
    // A second process gets the same ids.
    const other = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    await other.register(TOPICS);
    expect(other.idOf("labels")).toBe(id);
    expect(JSON.parse(registry.schemas.get(id)?.schema ?? "")).toEqual(other.get(id));
  });

  test("a producer's schema is kept as it was written, logical types included", async () => {
    const registry = await registryServer();
    registry.schemas.set(7, { schema: JSON.stringify(PAYMENT) });
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    expect(await schemas.load(7)).toEqual(PAYMENT);
    expect(await schemas.load(7)).toEqual(PAYMENT);
    expect(registry.requests).toEqual(["GET /schemas/ids/7"]);
    expect(schemas.get(7)).toEqual(PAYMENT);
  });

  test("requested by many at once, each gets the schema of its id", async () => {
    const registry = await registryServer();
    const schemaOf = (id: number): object => ({ ...PAYMENT, name: `P${id}` });
    for (const id of [1, 2, 3]) registry.schemas.set(id, { schema: JSON.stringify(schemaOf(id)) });
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    const ids = [1, 1, 2, 1, 3, 3, 2, 1];
    expect(await Promise.all(ids.map((id) => schemas.load(id)))).toEqual(ids.map(schemaOf));
    expect(registry.requests).toHaveLength(3);
  });

  test("an unknown id is null, and is not requested again for a while", async () => {
    const registry = await registryServer();
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }, { patienceMs: 0 });
    expect(await schemas.load(9)).toBeNull();
    expect(await schemas.load(9)).toBeNull();
    expect(registry.requests).toEqual(["GET /schemas/ids/9"]);
  });

  test("an id that becomes known a moment later is waited for; others are not held up by it", async () => {
    const registry = await registryServer();
    registry.schemas.set(8, { schema: JSON.stringify(PAYMENT) });
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    const late = schemas.load(7);
    expect(await schemas.load(8)).toEqual(PAYMENT);
    setTimeout(() => registry.schemas.set(7, { schema: JSON.stringify(PAYMENT) }), 400);
    expect(await late).toEqual(PAYMENT);
    expect(registry.requests.filter((request) => request.endsWith("/7")).length).toBeGreaterThan(1);
  });

  test("made-up ids cost a bounded time, and none of them is waited for twice", async () => {
    const registry = await registryServer();
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }, { patienceMs: 300 });
    const ids = Array.from({ length: 300 }, (_, i) => 5_000 + i);
    const startedAt = performance.now();
    expect(new Set(await Promise.all(ids.map((id) => schemas.load(id))))).toEqual(new Set([null]));
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    const before = registry.requests.length;
    expect(await schemas.load(5_000)).toBeNull();
    expect(registry.requests).toHaveLength(before);
  });

  test("made-up ids that are requested one after the other cost a bounded time, too", async () => {
    const registry = await registryServer();
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }, { patienceMs: 300 });
    const startedAt = performance.now();
    for (let id = 5_000; id < 5_100; id++) expect(await schemas.load(id)).toBeNull();
    // Waited for, each of them would take a third of a second.
    expect(performance.now() - startedAt).toBeLessThan(15_000);
    expect(registry.requests.length).toBeLessThan(200);
  });

  test.each([2 ** 31, 2 ** 32 - 1])("no registry is asked for an id that can't exist (%i)", async (id) => {
    const registry = await registryServer();
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }, { patienceMs: 0 });
    expect(await schemas.load(id)).toBeNull();
    expect(registry.requests).toEqual([]);
  });

  test("a GUID stands for a schema, and so do several messages of one .proto file", async () => {
    const registry = await registryServer();
    const guid = "8de79b7a-2dc2-4e0b-9d1e-0123456789ab";
    registry.schemas.set(3, { schema: JSON.stringify(PAYMENT) });
    registry.guids.set(guid, 3);
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    expect([await schemas.load(guid), await schemas.load(`${guid}#1.0`)]).toEqual([PAYMENT, PAYMENT]);
    expect(registry.requests).toEqual([`GET /schemas/guids/${guid}`, `GET /schemas/guids/${guid}`]);
  });

  test("its policy is neither read nor changed", async () => {
    const registry = await registryServer();
    await new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }).register(TOPICS);
    expect(registry.requests.filter((request) => request.includes("/config") || request.startsWith("PUT"))).toEqual([]);
  });

  test.each([401, 403, 409, 422])(
    "if it refuses to register (%i), its version with the same fields serves",
    async (status) => {
      const registry = await registryServer();
      const options = { schemaRegistryUrl: registry.url, schemasDir: null };
      await new Schemas(options).register(TOPICS);
      // Somebody has written it down in other words, and a later version that isn't ours.
      const label = FIXED_SCHEMAS.get(1_000_003)?.schema as AvroObject;
      registry.schemas.set(900, {
        schema: JSON.stringify({
          ...label,
          name: "Verdict",
          namespace: "com.acme",
          doc: "theirs",
          fields: label.fields?.map((field) => ({ ...field, doc: "x", aliases: ["y"] })),
        }),
      });
      registry.schemas.set(901, { schema: JSON.stringify(PAYMENT) });
      registry.subjects.set(`${TOPICS.labels}-value`, [900, 901]);
      registry.registerStatus = status;
      const schemas = new Schemas(options);
      await schemas.register(TOPICS);
      expect(schemas.idOf("labels")).toBe(900);
      expect(schemas.idOf("predictions")).toBe(registry.subjects.get(`${TOPICS.predictions}-value`)?.[0]);
      registry.subjects.set(`${TOPICS.transactions}-value`, [901]);
      const refused = new Schemas(options).register(TOPICS);
      await expect(refused).rejects.toBeInstanceOf(UsageError);
      await expect(refused).rejects.toThrow(
        new RegExp(
          "test\\.transactions.*none of the same fields under test\\.transactions-value or " +
            "test\\.transactions-fraudstream\\.Transaction",
        ),
      );
      // A subject of our own beside the producers'.
      registry.schemas.set(902, { schema: JSON.stringify(FIXED_SCHEMAS.get(1_000_001)?.schema) });
      registry.subjects.set(`${TOPICS.transactions}-fraudstream.Transaction`, [902]);
      const beside = new Schemas(options);
      await beside.register(TOPICS);
      expect(beside.idOf("transactions")).toBe(902);
    },
  );

  test("it learns who asks", async () => {
    const registry = await registryServer();
    const schemas = new Schemas(
      { schemaRegistryUrl: registry.url, schemaRegistryAuth: { username: "u", password: "p:ß" }, schemasDir: null },
      { patienceMs: 0 },
    );
    await schemas.load(1);
    expect(Buffer.from(registry.authorization.replace("Basic ", ""), "base64").toString()).toBe("u:p:ß");
  });

  test("one that doesn't answer is a transient error, after a bounded time", async () => {
    const registry = await registryServer();
    registry.hangs = true;
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }, { answerWithinMs: 500 });
    const startedAt = performance.now();
    await expect(schemas.load(1)).rejects.toMatchObject({ code: "schema_registry_unreachable", retriable: true });
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    registry.hangs = false;
    registry.schemas.set(1, { schema: JSON.stringify(PAYMENT) });
    expect(await schemas.load(1)).toEqual(PAYMENT);
  }, 20_000);

  test("referenced schemas are loaded as well", async () => {
    const registry = await registryServer();
    const money = {
      type: "record",
      name: "Money",
      namespace: "com.acme",
      fields: [
        { name: "minor", type: "long" },
        { name: "in", type: "Currency" },
      ],
    };
    const currency = { type: "enum", name: "com.acme.Currency", symbols: ["EUR", "USD"] };
    const payment = {
      type: "record",
      name: "Payment",
      namespace: "com.acme",
      fields: [
        { name: "paid", type: "Money" },
        { name: "tips", type: { type: "array", items: "com.acme.Money" } },
        { name: "in", type: ["null", "Currency"] },
      ],
    };
    registry.schemas.set(1, { schema: JSON.stringify(currency) });
    registry.schemas.set(2, {
      schema: JSON.stringify(money),
      references: [{ name: "com.acme.Currency", subject: "currency", version: 1 }],
    });
    registry.schemas.set(3, {
      schema: JSON.stringify(payment),
      references: [
        { name: "com.acme.Money", subject: "money", version: 1 },
        { name: "com.acme.Currency", subject: "currency", version: 1 },
      ],
    });
    registry.subjects.set("currency", [1]);
    registry.subjects.set("money", [2]);
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    const whole = (await schemas.load(3)) as AvroSchema;
    const type = avsc.Type.forSchema(whole as avsc.Schema);
    const value = { paid: { minor: 5, in: "USD" }, tips: [{ minor: 1, in: "EUR" }], in: "EUR" };
    expect(type.fromBuffer(type.toBuffer(value))).toEqual(value);
    expect(type.name).toBe("com.acme.Payment");
    // A replica may hear of it later: it is asked for again.
    registry.schemas.set(4, {
      schema: JSON.stringify(payment),
      references: [{ name: "x", subject: "nowhere", version: 1 }],
    });
    const missing = await new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }, { patienceMs: 0 }).load(4);
    expect(missing).toBeInstanceOf(UnavailableWriter);
    expect((missing as UnavailableWriter).reason).toContain("nowhere version 1");
  });

  test.each([
    ["PROTOBUF", 'syntax = "proto3"; message P { string a = 1; }', ProtobufWriter],
    ["JSON", '{"type":"object"}', JsonSchemaWriter],
    ["PROTOBUF", "message {", UnreadableWriter],
    ["JSON", "{", UnreadableWriter],
    ["AVRO", "{", UnreadableWriter],
    ["THRIFT", "struct P {}", UnreadableWriter],
  ])("a schema of type %s: %s", async (schemaType, schema, writer) => {
    const registry = await registryServer();
    registry.schemas.set(4, { schema, schemaType });
    const loaded = await new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }).load(4);
    expect(loaded).toBeInstanceOf(writer);
    if (loaded instanceof UnreadableWriter) expect(loaded.reason).toContain(schemaType);
  });

  test("a schema that avsc rejects is passed on", async () => {
    const registry = await registryServer();
    const odd = { type: "record", name: "Odd", fields: [{ name: "a", type: "Nowhere" }] };
    registry.schemas.set(5, { schema: JSON.stringify(odd) });
    expect(await new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }).load(5)).toEqual(odd);
  });

  test("one that is away, or fails, is a transient error", async () => {
    const registry = await registryServer();
    registry.schemas.set(7, { schema: JSON.stringify(PAYMENT) });
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    const unreachable = expect.objectContaining({ code: "schema_registry_unreachable", retriable: true }) as Error;
    for (const status of [500, 503, 401]) {
      registry.status = status;
      await expect(schemas.load(7)).rejects.toThrow(unreachable);
    }
    registry.status = 200;
    expect(await schemas.load(7)).toEqual(PAYMENT);
    await registry.close();
    await expect(schemas.load(8)).rejects.toThrow(unreachable);
    await expect(schemas.decode("labels", Buffer.from([0, 0, 0, 0, 8, 1]))).rejects.toThrow(unreachable);
    expect(await schemas.load(7)).toEqual(PAYMENT);
    const starting = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }).register(TOPICS);
    await expect(starting).rejects.toBeInstanceOf(UsageError);
    await expect(starting).rejects.toThrow("SCHEMA_REGISTRY_URL");
  });

  test.each([400, 404, 405, 410, 422])("%i for an unknown id means that there is no such schema", async (status) => {
    const registry = await registryServer();
    registry.statuses.set(9, status);
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }, { patienceMs: 0 });
    expect(await schemas.load(9)).toBeNull();
  });

  test.each([401, 403, 429, 500, 503, 0])(
    "a registry that answers %i for one id and works otherwise holds nobody up for good",
    async (status) => {
      const registry = await registryServer();
      const conditions = new Conditions(createLogger({ logLevel: "silent" }, "test"));
      registry.statuses.set(9, status);
      const schemas = new Schemas(
        { schemaRegistryUrl: registry.url, schemasDir: null },
        { patienceMs: 200, answerWithinMs: 500, conditions },
      );
      await schemas.register(TOPICS);
      const reader = new TransactionReader({ find: () => -1, number: () => {}, boolean: () => {}, text: () => {} });
      const value = Buffer.from([0, 0, 0, 0, 9, 1]);
      const readValue = (): void => reader.read(value, 0, value.length, 0, new TransactionFields());
      await learnSchemas(fetchedRecords({ topic: "t" }, [{ value }]), reader, schemas);
      expect(readValue).toThrow(
        expect.objectContaining({
          code: "schema_unavailable",
          message: expect.stringMatching(/schema 9.*did not give schema 9.*while it answers otherwise/) as string,
        }),
      );
      expect(conditions.list()).toEqual([]);
      // Nobody waits for it again at once, and it is read as soon as it is given.
      const before = registry.requests.length;
      expect(await schemas.load(9)).toBeInstanceOf(UnavailableWriter);
      expect(registry.requests).toHaveLength(before);
      reader.forgetUnknown();
      expect(reader.knows(9)).toBe(false);
    },
    20_000,
  );

  test("a registry that refuses every request raises a condition that says what to do, until it answers", async () => {
    const registry = await registryServer();
    const conditions = new Conditions(createLogger({ logLevel: "silent" }, "test"));
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }, { patienceMs: 0, conditions });
    await schemas.register(TOPICS);
    registry.status = 401;
    await expect(schemas.load(9)).rejects.toMatchObject({ code: "schema_registry_unreachable", retriable: true });
    expect(conditions.list()).toEqual([
      expect.objectContaining({
        code: "schema_registry",
        blocking: false,
        message: expect.stringContaining("SCHEMA_REGISTRY_USERNAME") as string,
      }),
    ]);
    registry.status = 200;
    registry.statuses.set(10, 500);
    expect(await schemas.load(10)).toBeInstanceOf(UnavailableWriter);
    expect(conditions.list()).toEqual([]);
  });

  test("a value of another, compatible writer is read like ours", async () => {
    const registry = await registryServer();
    const writer = {
      type: "record",
      name: "Label",
      namespace: "fraudstream",
      fields: [
        { name: "extra", type: "string" },
        { name: "label_time", type: "int" },
        { name: "is_fraud", type: "boolean" },
        { name: "card_id", type: "string" },
        { name: "transaction_id", type: "string" },
      ],
    };
    registry.schemas.set(70_000, { schema: JSON.stringify(writer) });
    const body = avsc.Type.forSchema(writer as avsc.Schema).toBuffer({ ...LABEL, label_time: 1234, extra: "x" });
    const bytes = Buffer.alloc(WIRE_HEAD_BYTES + body.length);
    bytes.set(body, writeWireHead(bytes, 0, 70_000));
    expect(await new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }).decode("labels", bytes)).toEqual({
      ...LABEL,
      label_time: 1234,
    });
  });
});

test("withReferences inserts each type once, where it is first named", () => {
  const shared = { type: "enum", name: "Kind", symbols: ["a"] };
  const schema: AvroSchema = {
    type: "record",
    name: "ns.R",
    fields: [
      { name: "a", type: { type: "map", values: "Kind" } },
      { name: "b", type: "Kind" },
      { name: "c", type: "string" },
    ],
  };
  expect(withReferences(schema, [shared])).toEqual({
    ...schema,
    fields: [
      { name: "a", type: { type: "map", values: { ...shared, namespace: "" } } },
      { name: "b", type: "Kind" },
      { name: "c", type: "string" },
    ],
  });
  expect(withReferences(schema, [])).toBe(schema);
});
