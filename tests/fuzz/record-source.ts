import { transactionSchema } from "../../schemas/generated.js";
import type { RandomSource } from "../support/random-source.js";
import { TRANSACTION_SCHEMA_ID, wireValue } from "../support/transactions.js";
import { CARD_MARK, SECRET_MARK } from "./findings.js";
import { ODD_TEXTS, mutated } from "./mutate.js";

/** A producer's own schema: flat, its attributes top-level fields, some of which may be absent. */
const FLAT = {
  type: "record",
  name: "Payment",
  namespace: "producer",
  fields: [
    { name: "merchant_id", type: "string" },
    { name: "card_id", type: "string" },
    { name: "transaction_id", type: ["null", "string"] },
    { name: "event_time", type: { type: "long", logicalType: "timestamp-micros" } },
    { name: "amount", type: "float" },
    { name: "currency", type: { type: "string" } },
    { name: "v1", type: "double" },
    { name: "v2", type: ["null", "double"] },
    { name: "known", type: "boolean" },
    { name: "channel", type: ["string", "null"] },
    { name: "level", type: { type: "enum", name: "Level", symbols: ["low", "high"] } },
    { name: "digest", type: { type: "fixed", name: "Digest", size: 4 } },
    {
      name: "items",
      type: {
        type: "array",
        items: {
          type: "record",
          name: "Item",
          fields: [
            { name: "price", type: "double" },
            { name: "tags", type: { type: "map", values: "string" } },
          ],
        },
      },
    },
  ],
};
/** A schema that contains itself. */
const NESTED = {
  type: "record",
  name: "Nested",
  namespace: "producer",
  fields: [
    ...(transactionSchema.fields as readonly { name: string }[]).filter(({ name }) => name !== "attributes"),
    {
      name: "inner",
      type: [
        "null",
        {
          type: "record",
          name: "Node",
          fields: [
            { name: "next", type: ["null", "Node"] },
            { name: "value", type: "long" },
          ],
        },
      ],
    },
  ],
};
/** The writer schemas of what is fuzzed, beside our own. */
export const FUZZ_SCHEMAS: ReadonlyMap<number, object> = new Map([
  [900_001, FLAT],
  [900_002, NESTED],
]);
const NO_SCHEMA = 900_009;

export const FUZZ_TIME = Date.UTC(2026, 0, 15, 12);
const CURRENCIES = ["EUR", "USD", "JPY", "XXX", "EUr", "ZZZ"];

export interface FuzzRecord {
  value: Buffer | null;
  card: string;
}

/** One record, most often with something wrong. */
export function fuzzRecord(random: RandomSource, n: number): FuzzRecord {
  const card = `${CARD_MARK}${random.int(400).toString().padStart(4, "0")}`;
  const value = base(random, n, card);
  const kind = random.next();
  if (kind < 0.25) return { card, value };
  if (kind < 0.26) return { card, value: random.next() < 0.3 ? null : random.bytes(random.int(64)) };
  if (kind < 0.3) {
    // Another's schema id before the bytes of this one.
    const changed = Buffer.from(value);
    changed.writeUInt32BE(
      random.pick([TRANSACTION_SCHEMA_ID, 1_000_002, 900_001, 900_002, NO_SCHEMA, 0, 0xffffffff]),
      1,
    );
    return { card, value: changed };
  }
  const other = (): Buffer => base(random, n + 1, card);
  return {
    card,
    value:
      value[0] === 0x7b && random.next() < 0.6
        ? oddJson(random, value.toString(), card)
        : mutated(value, random, other),
  };
}

function base(random: RandomSource, n: number, card_id: string): Buffer {
  const fields = {
    transaction_id: `f${random.next() < 0.05 ? random.int(n + 1) : n}`,
    event_time: FUZZ_TIME - random.int(random.next() < 0.1 ? 100 * 86_400_000 : 3_600_000),
    card_id,
    merchant_id: `m${random.int(50)}`,
    amount: random.next() < 0.05 ? -random.int(1_000) : random.int(10_000) / 100,
    currency: random.next() < 0.95 ? "EUR" : random.pick(CURRENCIES),
  };
  const attributes = {
    v1: random.next() * 10,
    known: random.next() < 0.5,
    channel: random.pick(["online", "shop", "", SECRET_MARK]),
    ...(random.next() < 0.3 ? { note: `${SECRET_MARK} ${"x".repeat(random.int(200))}` } : {}),
  };
  const kind = random.next();
  if (kind < 0.35)
    return Buffer.from(
      JSON.stringify({
        ...fields,
        ...(random.next() < 0.5 ? { event_time: new Date(fields.event_time).toISOString() } : {}),
        attributes,
      }),
    );
  if (kind < 0.65) return wireValue({ ...fields, attributes });
  if (kind < 0.9) {
    const flat = {
      ...fields,
      event_time: fields.event_time * 1_000,
      v1: attributes.v1,
      v2: random.next() < 0.5 ? null : 1,
      known: attributes.known,
      channel: attributes.channel,
      level: "low",
      digest: Buffer.from("abcd"),
      items: Array.from({ length: random.int(4) }, () => ({ price: 1, tags: { a: "b" } })),
    };
    return wireValue(flat, 900_001, FLAT);
  }
  let inner: object | null = null;
  for (let depth = random.int(random.next() < 0.02 ? 700 : 8); depth > 0; depth--)
    inner = { next: inner, value: depth };
  return wireValue({ ...fields, inner }, 900_002, NESTED);
}

/** JSON that is JSON in form, or nearly, with values that nobody asked for. */
function oddJson(random: RandomSource, text: string, card: string): Buffer {
  const parsed = JSON.parse(text) as Record<string, unknown>;
  const names = Object.keys(parsed);
  const odd = (): unknown =>
    random.pick<() => unknown>([
      () => random.pick(ODD_TEXTS),
      () => random.pick([0, -1, 1e308, 2 ** 53, 1.5]),
      () => null,
      () => true,
      () => [],
      () => ({}),
      () => [[[[[]]]]],
      () => ({ [card]: card }),
      () => "a".repeat(random.int(2_000)),
    ])();
  const kind = random.int(9);
  if (kind === 0) parsed[random.pick(names)] = odd();
  else if (kind === 1) delete parsed[random.pick(names)];
  else if (kind === 2) parsed[random.pick(ODD_TEXTS)] = odd();
  else if (kind === 3)
    parsed["attributes"] = Object.fromEntries(
      Array.from({ length: random.int(20) }, () => [random.pick([...ODD_TEXTS, "v1", "known", "channel"]), odd()]),
    );
  else if (kind === 4)
    parsed["attributes"] =
      random.next() < 0.01 ? Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`a${i}`, i])) : odd();
  else if (kind === 5) {
    const depth = random.int(random.next() < 0.01 ? 50_000 : 60);
    return Buffer.from(`{"x":${"[".repeat(depth)}${random.next() < 0.5 ? "]".repeat(depth) : ""},${text.slice(1)}`);
  } else if (kind === 6)
    return Buffer.from(
      text.replace(/-?\d+(\.\d+)?/, () =>
        random.pick(["1e999", "-1e999", "01", "1.", ".5", "1e", "--1", "NaN", "0".repeat(400), "9".repeat(400)]),
      ),
    );
  else if (kind === 7)
    return Buffer.from(
      text.replace(/"([a-z_]+)":/, (whole, name: string) =>
        random.pick([
          `${whole}1,${whole}`,
          `"${name}\\u0000":`,
          `"\\u${random.int(65_536).toString(16).padStart(4, "0")}":`,
          `"${name}" : \t`,
          `'${name}':`,
        ]),
      ),
    );
  else return Buffer.from(`${text}${random.pick([" ", "}", ",", "null", text, "\u0000", "\ufeff"])}`);
  return Buffer.from(JSON.stringify(parsed));
}
