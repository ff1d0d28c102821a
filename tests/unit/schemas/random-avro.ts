import type { AvroObject, AvroSchema } from "../../../schemas/avro-cursor.js";
import type { RandomSource } from "../../support/random-source.js";

type Attribute = number | boolean | string | undefined;

/**
 * A type and values of it: as avsc takes them with `wrapUnions`, and as the attribute that a reader should make of
 * them.
 */
export interface RandomType {
  schema: AvroSchema;
  /** The key of a union's branch. */
  name: string;
  value: () => { avro: unknown; attribute: Attribute };
}

const PRIMITIVES = ["null", "boolean", "int", "long", "float", "double", "string", "bytes"] as const;

/** Makes types of every kind, each named type under a name of its own in one of several namespaces. */
export class RandomTypes {
  readonly #random: RandomSource;
  readonly #named: RandomType[] = [];
  #names = 0;

  constructor(random: RandomSource) {
    this.#random = random;
  }

  /** @param namespace that the type stands in; `depth` bounds what is in one another */
  any(namespace: string, depth = 2): RandomType {
    const random = this.#random;
    const kinds =
      depth === 0
        ? ["primitive"]
        : [
            "primitive",
            "primitive",
            "primitive",
            "enum",
            "fixed",
            "array",
            "map",
            "record",
            "union",
            "union",
            "reference",
          ];
    switch (random.pick(kinds)) {
      case "enum":
        return this.#defined(
          namespace,
          { type: "enum", symbols: ["a", "b", "c"] },
          () => random.pick(["a", "b", "c"]),
          true,
        );
      case "fixed": {
        const size = random.int(5);
        return this.#defined(namespace, { type: "fixed", size }, () => random.bytes(size));
      }
      case "array": {
        const items = this.any(namespace, depth - 1);
        return unread({ type: "array", items: items.schema }, "array", () =>
          Array.from({ length: random.int(4) }, () => items.value().avro),
        );
      }
      case "map": {
        const values = this.any(namespace, depth - 1);
        return unread({ type: "map", values: values.schema }, "map", () =>
          Object.fromEntries(Array.from({ length: random.int(4) }, (_, i) => [`k${i}`, values.value().avro])),
        );
      }
      case "record":
        return this.#record(namespace, depth);
      case "union":
        return this.#union(namespace, depth);
      case "reference": {
        // A name without a dot would be taken for one of the enclosing namespace.
        const known = this.#named
          .filter(({ name }) => namespace === "" || name.includes("."))
          .at(random.int(this.#named.length + 1));
        return known ? { ...known, schema: known.name } : this.#primitive(random.pick(PRIMITIVES));
      }
      default:
        return this.#primitive(random.pick(PRIMITIVES));
    }
  }

  #primitive(type: (typeof PRIMITIVES)[number]): RandomType {
    const random = this.#random;
    const schema = random.int(4) === 0 ? { type } : type;
    const of = (value: () => unknown, isAttribute = true): RandomType => ({
      schema,
      name: type,
      value: () => {
        const avro = value();
        return { avro, attribute: isAttribute ? (avro as Attribute) : undefined };
      },
    });
    switch (type) {
      case "null":
        return of(() => null, false);
      case "boolean":
        return of(() => random.int(2) === 1);
      case "int":
        return of(() => Math.floor(random.next() * 2 ** 32) - 2 ** 31);
      case "long":
        return of(() => random.pick([1, -1]) * Math.ceil(random.next() * 2 ** random.int(53)));
      case "float":
        return of(() => Math.fround((random.next() - 0.5) * 10 ** random.int(30)));
      case "double":
        return of(() => random.pick([0, -0, 1e300, Number.NaN, Number.NEGATIVE_INFINITY, random.next() - 0.5]));
      case "string":
        return of(() => random.pick(["", "a", "grün 😀", "x".repeat(random.int(200))]));
      case "bytes":
        return of(() => random.bytes(random.int(70)), false);
    }
  }

  #record(namespace: string, depth: number): RandomType {
    const { schema, name, inside } = this.#naming(namespace, { type: "record" });
    const fields = Array.from({ length: this.#random.int(4) }, (_, i) => ({
      name: `f${i}`,
      type: this.any(inside, depth - 1),
    }));
    const type = unread(
      { ...schema, fields: fields.map((field) => ({ name: field.name, type: field.type.schema })) },
      name,
      () => Object.fromEntries(fields.map((field) => [field.name, field.type.value().avro])),
    );
    this.#named.push(type);
    return type;
  }

  #union(namespace: string, depth: number): RandomType {
    const random = this.#random;
    const branches: RandomType[] = [];
    // Two branches of one name, and unions in unions, are not allowed.
    for (let i = 0; i < 3; i++) {
      const named = this.#named.length;
      const branch = this.any(namespace, depth - 1);
      if (branch.name !== "null" && branch.name !== "union" && !branches.some(({ name }) => name === branch.name))
        branches.push(branch);
      else this.#named.length = named;
    }
    branches.splice(random.int(branches.length + 1), 0, this.#primitive("null"));
    return {
      schema: branches.map((branch) => branch.schema),
      name: "union",
      value: () => {
        const branch = random.pick(branches);
        const { avro, attribute } = branch.value();
        return { avro: branch.name === "null" ? null : { [branch.name]: avro }, attribute };
      },
    };
  }

  #defined(namespace: string, definition: AvroObject, value: () => unknown, isAttribute = false): RandomType {
    const { schema, name } = this.#naming(namespace, definition);
    const read = (): ReturnType<RandomType["value"]> => {
      const avro = value();
      return { avro, attribute: avro as Attribute };
    };
    const type = isAttribute ? { schema, name, value: read } : unread(schema, name, value);
    this.#named.push(type);
    return type;
  }

  /** A name: in the enclosing namespace, in one of its own, or a full one. Simple names come more than once. */
  #naming(enclosing: string, definition: AvroObject): { schema: AvroObject; name: string; inside: string } {
    const namespace = this.#random.pick([enclosing, enclosing, `ns${this.#names}`, `deep.er${this.#names}`]);
    const simple = `T${namespace === enclosing ? this.#names : 0}`;
    this.#names++;
    const name = namespace === "" ? simple : `${namespace}.${simple}`;
    const how =
      namespace === enclosing ? { name: simple } : this.#random.int(2) === 0 ? { name: simple, namespace } : { name };
    return { schema: { ...definition, ...how }, name, inside: namespace };
  }
}

function unread(schema: AvroSchema, name: string, value: () => unknown): RandomType {
  return { schema, name, value: () => ({ avro: value(), attribute: undefined }) };
}
