import {
  AvroTruncated,
  compileSkip,
  namespaceIn,
  type AvroCursor,
  type AvroObject,
  type AvroSchema,
  type NamedTypes,
} from "./avro-cursor.js";
import {
  describeType,
  flagReading,
  numberReading,
  textReading,
  timeReading,
  typeOf,
  type AvroType,
  type Reading,
} from "./avro-values.js";
import { attributeField, attributesMap, type AttributeTarget, type Unreadable } from "./avro-attributes.js";
import { OP, isChangeEvent, withoutPayload } from "./change-events.js";
import { isDescribed, misplaced, namedWithPath, shapeTree, type RecordShape, type ShapeNode } from "./record-shape.js";
import { namesOf, type FieldKind, type RecordFields, type RecordSpec } from "./record-spec.js";
import { TransactionRejected } from "./transaction-rejected.js";

export type Op<F> = (cursor: AvroCursor, fields: F, target: AttributeTarget) => void;

/** How the records of one writer schema are read. */
export interface AvroProgram<F> {
  ops: Op<F>[];
  /** Requested attributes that cannot be read. */
  unreadable: Unreadable[];
}

interface Context<F> {
  spec: RecordSpec<F>;
  shape: RecordShape;
  target: AttributeTarget;
  unreadable: Unreadable[];
}
/** A record's definition, and what its fields' names are resolved in. */
interface Definition {
  definition: AvroObject;
  inside: NamedTypes;
}
interface FieldOp<F> {
  op: Op<F>;
  /** The target's number of a plain double, which can be read in a run with its neighbours. */ double?: number;
}

/**
 * Compiles a reader of a writer's schema: fields by name or as the shape says, conversions chosen here and not per
 * record.
 *
 * @throws TransactionRejected `schema_mismatch`; TypeError for a schema that is none
 */
export function compileAvro<F extends RecordFields>(
  schema: AvroSchema,
  spec: RecordSpec<F>,
  shape: RecordShape,
  target: AttributeTarget,
): AvroProgram<F> {
  if (typeof schema === "string" || Array.isArray(schema) || schema.type !== "record" || schema.fields === undefined) {
    throw new TransactionRejected("schema_mismatch", "the writer's schema is not a record");
  }
  const inside: NamedTypes = { known: new Map(), namespace: namespaceIn(schema, ""), definitions: new Map() };
  // Every name is known from here on: a field may be of the record's own type.
  compileSkip(schema, inside);
  const context: Context<F> = { spec, shape, target, unreadable: [] };
  const ops = compileEnvelope({ definition: schema, inside }, shape.envelope, context);
  return { ops, unreadable: context.unreadable };
}

/** Goes down the envelope's path, as far as it is there. */
function compileEnvelope<F extends RecordFields>(
  record: Definition,
  envelope: readonly string[],
  context: Context<F>,
): Op<F>[] {
  const [head, ...rest] = envelope;
  if (head === undefined) return compilePayload(record, context);
  const fields = record.definition.fields ?? [];
  const holder = fields.find(({ name }) => name === head);
  if (holder === undefined || recordIn(holder.type, record.inside) === null)
    return compileEnvelope(record, rest, context);
  let absent = false;
  const takes = (name: string, type: AvroSchema): Op<F> | null =>
    name !== head
      ? null
      : branched(type, (branch) => {
          const found = recordIn(branch, record.inside);
          if (found !== null) return inSequence(compileEnvelope(found, rest, context));
          if (typeOf(branch, record.inside)?.type !== "null") return wrongType(head, "a record", branch, record.inside);
          return () => void (absent = true);
        });
  // Why there is nothing stands behind it.
  return [
    () => void (absent = false),
    ...withOp<F>(record, takes, (op) => {
      if (absent) throw withoutPayload(head, op);
    }),
  ];
}

/** Ops of a record's fields, and what is done at its end with what its `op` says; null: it has none. */
function withOp<F>(
  { definition, inside }: Definition,
  takes: (name: string, type: AvroSchema) => Op<F> | null,
  atEnd: (op: string | null) => void,
): Op<F>[] {
  let op: string | null = null;
  const ops = (definition.fields ?? []).map(
    ({ name, type }): Op<F> =>
      takes(name, type) ??
      (name !== OP
        ? skipOp(type, inside)
        : branched(type, (branch) =>
            typeOf(branch, inside)?.type === "string"
              ? (cursor) => void (op = cursor.string())
              : skipOp(branch, inside),
          )),
  );
  return [() => void (op = null), ...ops, () => atEnd(op)];
}

function compilePayload<F extends RecordFields>(record: Definition, context: Context<F>): Op<F>[] {
  const { spec, shape } = context;
  const has = (path: readonly string[]): boolean => hasPath(record, path);
  const there = (record.definition.fields ?? []).map(({ name }) => name);
  const missing = spec.required.filter((name) => !has([name]) && !has(shape.fields.get(name) ?? [name]));
  if (missing.length > 0 && shape.envelope.length > 0 && isChangeEvent((name) => has([name]))) {
    return withOp<F>(
      record,
      () => null,
      (op) => {
        throw withoutPayload(shape.envelope.at(-1) ?? "", op);
      },
    );
  }
  if (missing.length > 0) {
    const named = missing.map((name) => namedWithPath(name, shape, there));
    throw new TransactionRejected("schema_mismatch", `the writer's schema lacks ${named.join(", ")}`);
  }
  const isAskedFor = (attribute: string): boolean => spec.attributes && context.target.find(attribute) >= 0;
  context.unreadable.push(
    ...misplaced(shape, namesOf(spec), has, there).filter(
      ({ attribute, ofOurs }) => ofOurs === true || isAskedFor(attribute),
    ),
  );
  const tree = shapeTree(shape, namesOf(spec), has);
  return mergeDoubles(
    (record.definition.fields ?? []).map(({ name, type }) =>
      compileField(name, type, tree.get(name), record.inside, context),
    ),
  );
}

function compileField<F extends RecordFields>(
  name: string,
  type: AvroSchema,
  node: ShapeNode | undefined,
  named: NamedTypes,
  context: Context<F>,
): FieldOp<F> {
  const { spec, target, unreadable } = context;
  if (node === undefined) {
    return spec.attributes && !namesOf(spec).includes(name)
      ? attributeField(name, type, target, named, unreadable)
      : { op: skipOp(type, named) };
  }
  if (node.inside !== undefined && recordIn(type, named) !== null) {
    const level = node.inside;
    return { op: branched(type, (branch) => compileInner(branch, level, named, context)) };
  }
  const { field } = node;
  if (field === undefined) return { op: skipOp(type, named) };
  if (field === "attributes" && spec.attributes)
    return {
      op: branched(
        type,
        (branch) => attributesMap(branch, target, named, unreadable) ?? wrongType(field, "a map", branch, named),
      ),
    };
  const kind = spec.fields[field] as FieldKind<F> | undefined;
  if (kind === undefined) return attributeField(field, type, target, named, unreadable);
  return { op: branched(type, (branch) => compileOurs(field, branch, kind, named, isDescribed(context.shape))) };
}

/** A record that contains fields of ours; its other fields are skipped. */
function compileInner<F extends RecordFields>(
  branch: AvroSchema,
  level: Map<string, ShapeNode>,
  named: NamedTypes,
  context: Context<F>,
): Op<F> {
  const record = recordIn(branch, named);
  if (record === null) return typeOf(branch, named)?.type === "null" ? NOTHING : skipOp(branch, named);
  return inSequence(
    (record.definition.fields ?? []).map(({ name, type }) => {
      const node = level.get(name);
      return node === undefined
        ? skipOp<F>(type, record.inside)
        : compileField(name, type, node, record.inside, context).op;
    }),
  );
}

function compileOurs<F extends RecordFields>(
  name: string,
  branch: AvroSchema,
  kind: FieldKind<F>,
  named: NamedTypes,
  described: boolean,
): Op<F> {
  const found = typeOf(branch, named);
  if (found === null) return wrongType(name, kind.wanted, branch, named);
  if (found.type === "null") return NOTHING;
  if (kind.kind === "text") return compileText(name, found, branch, kind, described);
  const reading: Reading<number> =
    kind.kind === "number"
      ? numberReading(found, true)
      : kind.kind === "time"
        ? timeReading(found)
        : flagReading(found, described);
  if ("refused" in reading) return wrongType(name, kind.wanted, branch, named, reading.refused);
  const { read } = reading;
  const { set } = kind;
  if (found.type !== "string" && kind.kind !== "flag") return (cursor, fields) => set(fields, read(cursor));
  return (cursor, fields) => {
    const value = read(cursor);
    if (Number.isNaN(value))
      throw new TransactionRejected(kind.badCode, `${name} is a ${found.type} that is not ${kind.wanted}`);
    set(fields, value);
  };
}

function compileText<F extends RecordFields>(
  name: string,
  found: AvroType,
  branch: AvroSchema,
  kind: FieldKind<F> & { kind: "text" },
  described: boolean,
): Op<F> {
  const reading = textReading(found, described);
  const { place, make } = kind;
  if ("inPlace" in reading) {
    return (cursor, fields) => {
      const length = cursor.length();
      place(fields, cursor.at, length);
      cursor.at += length;
    };
  }
  if ("refused" in reading) return wrongType(name, kind.wanted, branch, found.named, reading.refused);
  const { make: read } = reading;
  return (cursor, fields) => make(fields, read(cursor));
}

function wrongType<F>(
  name: string,
  wanted: string,
  branch: AvroSchema,
  named: NamedTypes,
  given = nameOf(branch, named),
): Op<F> {
  compileSkip(branch, named);
  return () => {
    throw new TransactionRejected(
      "schema_mismatch",
      `${name} must be ${wanted}; in the writer's schema it is ${given}`,
    );
  };
}

function nameOf(branch: AvroSchema, named: NamedTypes): string {
  const found = typeOf(branch, named);
  return found === null ? "a union" : describeType(found);
}

const NOTHING = (): void => {};

function skipOp<F>(type: AvroSchema, named: NamedTypes): Op<F> {
  const skip = compileSkip(type, named);
  return (cursor) => skip(cursor);
}

function inSequence<F>(ops: Op<F>[]): Op<F> {
  return (cursor, fields, target) => {
    for (let i = 0; i < ops.length; i++) ops[i](cursor, fields, target);
  };
}

/** An op of a type, or of a union: each branch its own. */
function branched<F>(type: AvroSchema, compileBranch: (branch: AvroSchema) => Op<F>): Op<F> {
  if (!Array.isArray(type)) return compileBranch(type);
  const branches = type.map(compileBranch);
  return (cursor, fields, target) => {
    const branch = branches[cursor.long()] as Op<F> | undefined;
    if (branch === undefined) throw new AvroTruncated("a union has no such branch");
    branch(cursor, fields, target);
  };
}

/** The record that a type is, or that stands beside null in a union; null: neither. */
function recordIn(type: AvroSchema, named: NamedTypes): Definition | null {
  if (Array.isArray(type)) {
    for (const branch of type) {
      const found = recordIn(branch, named);
      if (found !== null) return found;
    }
    return null;
  }
  const found = typeOf(type, named);
  if (found === null || (found.type !== "record" && found.type !== "error") || found.definition.fields === undefined)
    return null;
  return {
    definition: found.definition,
    inside: { ...found.named, namespace: namespaceIn(found.definition, found.named.namespace) },
  };
}

function hasPath({ definition, inside }: Definition, [name, ...rest]: readonly string[]): boolean {
  const field = definition.fields?.find((candidate) => candidate.name === name);
  if (field === undefined) return false;
  if (rest.length === 0) return true;
  const inner = recordIn(field.type, inside);
  return inner !== null && hasPath(inner, rest);
}

/** Runs of plain doubles become one op: a flat schema of a model's inputs is mostly that. */
function mergeDoubles<F>(fields: FieldOp<F>[]): Op<F>[] {
  const ops: Op<F>[] = [];
  for (let i = 0; i < fields.length;) {
    let end = i;
    while (end < fields.length && fields[end].double !== undefined) end++;
    if (end - i < 2) {
      ops.push(fields[i++].op);
      continue;
    }
    const run = Int32Array.from(fields.slice(i, end), (field) => field.double ?? -1);
    ops.push((cursor, _fields, target) => {
      for (let j = 0; j < run.length; j++) target.number(run[j], cursor.double());
    });
    i = end;
  }
  return ops;
}
