import { Type, type Static } from "@sinclair/typebox";
import type { AttributeSlot } from "./attribute-slots.js";
import { LONGEST_PART } from "./text-parts.js";

const closed = { additionalProperties: false } as const;

/** The mean radius of the earth (R1 of the IUGG; H. Moritz, Geodetic Reference System 1980, 2000). */
export const EARTH_RADIUS_KM = 6371.0088;
/** Of a year of an age: the Julian calendar's. */
export const YEAR_DAYS = 365.25;

const ATTRIBUTE = "attributes\\.[\\s\\S]+";
const operand = (pattern: string, description: string) => Type.String({ pattern, maxLength: 300, description });
const Numeric = operand(`^(amount|${ATTRIBUTE})$`, "amount, or attributes.NAME of a number");
const Coordinate = operand(`^${ATTRIBUTE}$`, "attributes.NAME of a number: degrees");
const Since = operand(`^${ATTRIBUTE}$`, "attributes.NAME of a date: ISO 8601, epoch milliseconds, or days since 1970");
const Text = operand(`^(card_id|merchant_id|${ATTRIBUTE})$`, "card_id, merchant_id, or attributes.NAME of a text");
const Pair = Type.Array(Numeric, { minItems: 2, maxItems: 2 });
const Position = Type.Array(Coordinate, { minItems: 2, maxItems: 2, description: "Latitude and longitude" });
const Terms = Type.Array(Numeric, { minItems: 1, maxItems: 4 });

/** Features from the transaction's own columns: what lies between them is often the fraud. */
export const ColumnSource = Type.Union([
  Type.Object({ kind: Type.Literal("difference"), of: Pair }, { ...closed, description: "The first - the second" }),
  Type.Object({ kind: Type.Literal("ratio"), of: Pair }, { ...closed, description: "The first / the second" }),
  Type.Object(
    { kind: Type.Literal("sum_error"), total: Numeric, plus: Terms, minus: Type.Optional(Terms) },
    { ...closed, description: "The sum of plus - the sum of minus - total" },
  ),
  Type.Object(
    { kind: Type.Literal("distance"), from: Position, to: Position },
    { ...closed, description: "Kilometres on the great circle" },
  ),
  Type.Object(
    { kind: Type.Literal("age"), since: Since },
    { ...closed, description: `Years of ${YEAR_DAYS} days, at the event time` },
  ),
  Type.Object(
    { kind: Type.Literal("days_since"), since: Since },
    { ...closed, description: "Days, at the event time" },
  ),
  Type.Object(
    {
      kind: Type.Literal("text_part"),
      of: Text,
      part: Type.Union([Type.Literal("email_domain"), Type.Literal("bin"), Type.Literal("ipv4_24")]),
      equals: Type.String({ minLength: 1, maxLength: LONGEST_PART }),
    },
    { ...closed, description: "1 where the part of the text is this one, 0 where it is another" },
  ),
]);
export type ColumnSource = Static<typeof ColumnSource>;
export type ColumnKind = ColumnSource["kind"];

export const COLUMN_KINDS: readonly ColumnKind[] = ColumnSource.anyOf.map(({ properties }) => properties.kind.const);

export function isColumnSource(source: { kind: string }): source is ColumnSource {
  return (COLUMN_KINDS as readonly string[]).includes(source.kind);
}

/** What a feature's hash covers of its source. */
export function columnDefinition(source: ColumnSource): (string | number | null)[] {
  const { kind } = source;
  switch (kind) {
    case "difference":
    case "ratio":
      return [kind, ...source.of];
    case "sum_error":
      return [kind, source.total, "plus", ...source.plus, "minus", ...(source.minus ?? [])];
    case "distance":
      return [kind, ...source.from, ...source.to, EARTH_RADIUS_KM];
    case "age":
      return [kind, source.since, YEAR_DAYS];
    case "days_since":
      return [kind, source.since];
    case "text_part":
      return [kind, source.of, source.part, source.equals];
  }
}

const PREFIX = "attributes.";

/** The attribute that an operand names; null: it is a field of the transaction. */
export function attributeOf(operand: string): string | null {
  return operand.startsWith(PREFIX) ? operand.slice(PREFIX.length) : null;
}

/** How an operand names an attribute. */
export function operandOf(attribute: string): string {
  return PREFIX + attribute;
}

/** The slots of a source's operands, in its order; null: the amount, which has none. */
export function operandSlots(source: ColumnSource): (AttributeSlot | null)[] {
  switch (source.kind) {
    case "difference":
    case "ratio":
      return source.of.map(numberSlot);
    case "sum_error":
      return [...source.plus, ...(source.minus ?? []), source.total].map(numberSlot);
    case "distance":
      return [...source.from, ...source.to].map(numberSlot);
    case "age":
    case "days_since":
      return [{ attribute: attributeOf(source.since) ?? source.since, type: "time" }];
    case "text_part": {
      const { of, part, equals } = source;
      const attribute = attributeOf(of);
      return [
        {
          attribute: attribute ?? of,
          type: "boolean",
          part,
          equals,
          ...(attribute === null && { field: true as const }),
        },
      ];
    }
  }
}

function numberSlot(operand: string): AttributeSlot | null {
  const attribute = attributeOf(operand);
  return attribute === null ? null : { attribute, type: "number" };
}
