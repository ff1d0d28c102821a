import { AvroTruncated, compileSkip, type AvroCursor, type AvroSchema, type NamedTypes } from "./avro-cursor.js";
import { describeType, numberReading, textReading, typeOf } from "./avro-values.js";

/** Takes the attributes of a transaction as they are read. A text stands at `at` in `bytes`, `length` bytes long. */
export interface AttributeTarget {
  /**
   * Asked once for each attribute of a writer schema, and for each name in an `attributes` map.
   *
   * @returns what to do with it (a number of the target's own), or -1 to step over it
   */
  find(name: string): number;
  number(found: number, value: number): void;
  boolean(found: number, value: boolean): void;
  text(found: number, bytes: Buffer, at: number, length: number): void;
}

/**
 * An attribute that is asked for and that can't be read, and its type; or a field of ours (`ofOurs`) that is not where
 * the settings say, so that it is read by its own name.
 */
export interface Unreadable {
  attribute: string;
  type: string;
  ofOurs?: true;
}

type Op = (cursor: AvroCursor, fields: unknown, target: AttributeTarget) => void;

const MAX_KNOWN_NAMES = 10_000;
const MAX_KNOWN_NAME_LENGTH = 256;

/** A further field: an attribute if it is a number, string, boolean, enum or decimal, otherwise stepped over. */
export function attributeField(
  name: string,
  type: AvroSchema,
  target: AttributeTarget,
  named: NamedTypes,
  unreadable: Unreadable[],
): { op: Op; double?: number } {
  const found = target.find(name);
  if (found < 0) {
    const skip = compileSkip(type, named);
    return { op: (cursor) => skip(cursor) };
  }
  const note = (given: string): void => void unreadable.push({ attribute: name, type: given });
  const op = ofBranches(type, (branch) => attributeBranch(branch, found, named, note));
  return typeOf(type, named)?.type === "double" ? { op, double: found } : { op };
}

function ofBranches(type: AvroSchema, compileBranch: (branch: AvroSchema) => Op): Op {
  if (!Array.isArray(type)) return compileBranch(type);
  const branches = type.map(compileBranch);
  return (cursor, fields, target) => {
    const branch = branches[cursor.long()] as Op | undefined;
    if (branch === undefined) throw new AvroTruncated("a union has no such branch");
    branch(cursor, fields, target);
  };
}

function attributeBranch(branch: AvroSchema, found: number, named: NamedTypes, note: (given: string) => void): Op {
  const skip = compileSkip(branch, named);
  const type = typeOf(branch, named);
  if (type === null || type.type === "null") return (cursor) => skip(cursor);
  if (type.type === "boolean") return (cursor, _fields, target) => target.boolean(found, cursor.boolean());
  if (type.type === "string") {
    return (cursor, _fields, target) => {
      const length = cursor.length();
      target.text(found, cursor.bytes, cursor.at, length);
      cursor.at += length;
    };
  }
  const number = numberReading(type);
  if ("read" in number) {
    const { read } = number;
    return (cursor, _fields, target) => target.number(found, read(cursor));
  }
  const text = textReading(type, false);
  if ("make" in text) {
    const { make } = text;
    return (cursor, _fields, target) => {
      const made = make(cursor);
      target.text(found, made, 0, made.length);
    };
  }
  note(describeType(type));
  return (cursor) => skip(cursor);
}

/** The `attributes` map: each value has a primitive type or a union of them. Null: it is not a map. */
export function attributesMap(
  map: AvroSchema,
  target: AttributeTarget,
  named: NamedTypes,
  unreadable: Unreadable[],
): Op | null {
  const type = typeOf(map, named);
  if (type?.type === "null") return () => {};
  const values = type?.definition.values;
  if (type?.type !== "map" || values === undefined) return null;
  const skip = compileSkip(values, type.named);
  // Whatever its names will be. A target that asks for nothing is told, too: names are known only once a record has
  // them.
  ofBranches(values, (branch) =>
    attributeBranch(
      branch,
      -1,
      type.named,
      (given) => void unreadable.push({ attribute: "attributes", type: `map of ${given}` }),
    ),
  );
  const names = new Map<string, { found: number; op: Op }>();
  return (cursor, fields) => {
    for (let count = cursor.long(); count !== 0; count = cursor.long()) {
      if (count < 0) {
        cursor.length();
        count = -count;
      }
      for (; count > 0; count--) {
        if (cursor.at >= cursor.end) throw new AvroTruncated("a map is cut off");
        const name = cursor.string();
        let known = names.get(name);
        if (known === undefined) {
          const found = target.find(name);
          known = {
            found,
            op:
              found < 0
                ? (at) => skip(at)
                : ofBranches(values, (branch) => attributeBranch(branch, found, type.named, () => {})),
          };
          // Names come from producers: a bounded number of them is remembered, none of them huge.
          if (names.size < MAX_KNOWN_NAMES && name.length <= MAX_KNOWN_NAME_LENGTH) names.set(name, known);
        }
        known.op(cursor, fields, target);
      }
    }
  };
}
