import { closestName } from "./closest-name.js";

/**
 * How the records of a topic hold our fields: where the payload stands in them, and what its fields are called there.
 */
export interface RecordShape {
  /** Path of the part that holds the fields, such as `["payload", "after"]`; empty: the record itself. */
  readonly envelope: readonly string[];
  /** By our name of a field, or of an attribute: its path in that part. A field that isn't here has our name. */
  readonly fields: ReadonlyMap<string, readonly string[]>;
}

/** Records as our own producers write them. */
export const PLAIN_SHAPE: RecordShape = { envelope: [], fields: new Map() };

/** Whether settings describe records that were not made for this system: ids may then be numbers, and amounts texts. */
export function isDescribed(shape: RecordShape): boolean {
  return shape.envelope.length > 0 || shape.fields.size > 0;
}

/**
 * What stands at each name of a record: a field of ours or an attribute, or a record in which such a one stands. Only
 * what `has` says to be there: records of our own kind go through the same topic, and have our names.
 */
export interface ShapeNode {
  /** Our name of what stands here. */
  field?: string;
  inside?: Map<string, ShapeNode>;
}

/** @param has whether a path is there, in the part that the envelope holds */
export function shapeTree(
  shape: RecordShape,
  names: readonly string[],
  has: (path: readonly string[]) => boolean,
): Map<string, ShapeNode> {
  const root = new Map<string, ShapeNode>();
  const put = (path: readonly string[], field: string): void => {
    let level = root;
    for (const [i, name] of path.entries()) {
      let node = level.get(name);
      if (node === undefined) level.set(name, (node = {}));
      if (i === path.length - 1) node.field = field;
      else level = node.inside ??= new Map();
    }
  };
  for (const name of names) {
    const path = shape.fields.get(name);
    put(path !== undefined && has(path) ? path : [name], name);
  }
  for (const [name, path] of shape.fields) if (!names.includes(name) && has(path)) put(path, name);
  return root;
}

/**
 * Where our name is looked for and not found, for messages: `amount (totl: did you mean total?)`. @param there names
 * that are there
 */
export function namedWithPath(name: string, { fields }: RecordShape, there: readonly string[]): string {
  const path = fields.get(name);
  if (path === undefined) return name;
  const meant = closestName(path[0], there);
  return `${name} (${path.join(".")}${meant === null ? "" : `: did you mean ${meant}?`})`;
}

/**
 * What the shape takes from where a writer's records have nothing, though they have others of its paths: attributes,
 * which are absent then, and fields of ours (`ofOurs`), whose own names are read instead, and may be something else.
 *
 * @param names of our fields
 */
export function misplaced(
  shape: RecordShape,
  names: readonly string[],
  has: (path: readonly string[]) => boolean,
  there: readonly string[],
): { attribute: string; type: string; ofOurs?: true }[] {
  const paths = [...shape.fields];
  if (!paths.some(([, path]) => has(path))) return [];
  return paths.flatMap(([name, path]) => {
    const isOurs = names.includes(name);
    if (has(path) || has([name]) !== isOurs) return [];
    return [
      {
        attribute: name,
        type: `absent in the records: ${namedWithPath(name, shape, there)}`,
        ...(isOurs && { ofOurs: true as const }),
      },
    ];
  });
}
