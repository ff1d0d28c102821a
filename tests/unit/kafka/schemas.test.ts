import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import avsc from "avsc";
import { describe, expect, onTestFinished, test } from "vitest";
import { withReferences } from "../../../infra/kafka/schema-references.js";
import { Schemas } from "../../../infra/kafka/schemas.js";
import type { AvroSchema } from "../../../schemas/avro-cursor.js";
import { UsageError } from "../../../schemas/errors.js";
import { FIXED_SCHEMAS, WIRE_HEAD_BYTES, schemaIdOf, writeWireHead } from "../../../schemas/wire-format.js";
import { subjectTopics, topicsFor } from "../../../schemas/topics.js";
import { registryServer } from "../../support/registry-server.js";

const LABEL = { transaction_id: "t", card_id: "c", is_fraud: true, label_time: Date.UTC(2026, 0, 1) };
const TOPICS = subjectTopics(topicsFor("test.", 1));
const PAYMENT = { type: "record", name: "Payment", fields: [{ name: "at", type: { type: "long", logicalType: "timestamp-micros" } }, { name: "price", type: ["null", { type: "bytes", logicalType: "decimal", precision: 9, scale: 2 }] }] };

describe("without a registry", () => {
  const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });

  test("ours have fixed ids, and come back from their bytes", async () => {
    for (const [id, { subject, schema }] of FIXED_SCHEMAS) {
      expect(schemas.idOf(subject)).toBe(id);
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
    for (const value of [Buffer.alloc(0), Buffer.from("{}"), Buffer.from([0, 0, 0, 0, 7, 1]), bytes.subarray(0, -1), Buffer.concat([bytes, Buffer.from([1])]), Buffer.concat([schemas.encode("control", EVENT).subarray(0, 5), bytes.subarray(5)])]) {
      await expect(schemas.decode("labels", value)).rejects.toMatchObject({ code: "undecodable", retriable: false });
    }
  });

  test("a directory has further ones", async () => {
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
  test("ours are registered under their topics and carry its ids", async () => {
    const registry = await registryServer();
    registry.schemas.set(500, { schema: '"string"' });
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    await schemas.register(TOPICS);
    expect([...registry.subjects.keys()]).toEqual([...FIXED_SCHEMAS.values()].map(({ subject }) => `${TOPICS[subject]}-value`));
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

  test("asked for by many at once, each gets the schema of its id", async () => {
    const registry = await registryServer();
    const schemaOf = (id: number): object => ({ ...PAYMENT, name: `P${id}` });
    for (const id of [1, 2, 3]) registry.schemas.set(id, { schema: JSON.stringify(schemaOf(id)) });
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    const ids = [1, 1, 2, 1, 3, 3, 2, 1];
    expect(await Promise.all(ids.map((id) => schemas.load(id)))).toEqual(ids.map(schemaOf));
    expect(registry.requests).toHaveLength(3);
  });

  test("an id that it doesn't know is null, and for a while nobody asks again", async () => {
    const registry = await registryServer();
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    expect(await schemas.load(9)).toBeNull();
    expect(await schemas.load(9)).toBeNull();
    expect(registry.requests).toEqual(["GET /schemas/ids/9"]);
  });

  test("what it refers to comes along", async () => {
    const registry = await registryServer();
    const money = { type: "record", name: "Money", namespace: "com.acme", fields: [{ name: "minor", type: "long" }, { name: "in", type: "Currency" }] };
    const currency = { type: "enum", name: "com.acme.Currency", symbols: ["EUR", "USD"] };
    const payment = { type: "record", name: "Payment", namespace: "com.acme", fields: [{ name: "paid", type: "Money" }, { name: "tips", type: { type: "array", items: "com.acme.Money" } }, { name: "in", type: ["null", "Currency"] }] };
    registry.schemas.set(1, { schema: JSON.stringify(currency) });
    registry.schemas.set(2, { schema: JSON.stringify(money), references: [{ name: "com.acme.Currency", subject: "currency", version: 1 }] });
    registry.schemas.set(3, { schema: JSON.stringify(payment), references: [{ name: "com.acme.Money", subject: "money", version: 1 }, { name: "com.acme.Currency", subject: "currency", version: 1 }] });
    registry.subjects.set("currency", [1]);
    registry.subjects.set("money", [2]);
    const schemas = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
    const whole = (await schemas.load(3)) as AvroSchema;
    const type = avsc.Type.forSchema(whole as avsc.Schema);
    const value = { paid: { minor: 5, in: "USD" }, tips: [{ minor: 1, in: "EUR" }], in: "EUR" };
    expect(type.fromBuffer(type.toBuffer(value))).toEqual(value);
    expect(type.name).toBe("com.acme.Payment");
  });

  test.each(["PROTOBUF", "JSON", "AVRO"])("a schema of type %s that is no Avro is nobody's", async (schemaType) => {
    const registry = await registryServer();
    const schema = schemaType === "PROTOBUF" ? 'syntax = "proto3"; message P { string a = 1; }' : schemaType === "JSON" ? '{"type":"object"}' : "{";
    registry.schemas.set(4, { schema, schemaType });
    expect(await new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }).load(4)).toBeNull();
  });

  test("a schema that avsc refuses is handed on", async () => {
    const registry = await registryServer();
    const odd = { type: "record", name: "Odd", fields: [{ name: "a", type: "Nowhere" }] };
    registry.schemas.set(5, { schema: JSON.stringify(odd) });
    expect(await new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }).load(5)).toEqual(odd);
  });

  test("one that is away, or fails, is trouble that passes", async () => {
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

  test("a value of another, compatible writer is read as ours", async () => {
    const registry = await registryServer();
    const writer = { type: "record", name: "Label", namespace: "fraudstream", fields: [{ name: "extra", type: "string" }, { name: "label_time", type: "int" }, { name: "is_fraud", type: "boolean" }, { name: "card_id", type: "string" }, { name: "transaction_id", type: "string" }] };
    registry.schemas.set(70_000, { schema: JSON.stringify(writer) });
    const body = avsc.Type.forSchema(writer as avsc.Schema).toBuffer({ ...LABEL, label_time: 1234, extra: "x" });
    const bytes = Buffer.alloc(WIRE_HEAD_BYTES + body.length);
    bytes.set(body, writeWireHead(bytes, 0, 70_000));
    expect(await new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null }).decode("labels", bytes)).toEqual({ ...LABEL, label_time: 1234 });
  });
});

test("withReferences fills in each type once, where it is named first", () => {
  const shared = { type: "enum", name: "Kind", symbols: ["a"] };
  const schema: AvroSchema = { type: "record", name: "ns.R", fields: [{ name: "a", type: { type: "map", values: "Kind" } }, { name: "b", type: "Kind" }, { name: "c", type: "string" }] };
  expect(withReferences(schema, [shared])).toEqual({ ...schema, fields: [{ name: "a", type: { type: "map", values: { ...shared, namespace: "" } } }, { name: "b", type: "Kind" }, { name: "c", type: "string" }] });
  expect(withReferences(schema, [])).toBe(schema);
});
