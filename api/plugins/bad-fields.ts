import type { FastifyError } from "fastify";

/** One complaint of the validator. */
type Complaint = NonNullable<FastifyError["validation"]>[number];

/** One field of a request that was refused. */
export interface BadField {
  in?: "body" | "query" | "path" | "header";
  /** As it would be written in JavaScript: `transactions[3].amount`; empty: the whole of it. */
  field: string;
  /** Which rule it broke: the JSON schema keyword. */
  code?: string;
  message: string;
}

const PLACES: Readonly<Record<string, NonNullable<BadField["in"]>>> = {
  body: "body",
  querystring: "query",
  params: "path",
  headers: "header",
};
/** More than this many would help nobody. */
const MOST_FIELDS = 50;

/** What a validator says, one entry a field. Values are never repeated: they may be secrets. */
export function badFields(errors: readonly Complaint[], context: string): BadField[] {
  const found = new Map<string, BadField>();
  const unions = new Set(errors.filter(({ keyword }) => keyword === "anyOf").map(({ instancePath }) => instancePath));
  const choices = choicesOf(errors, unions);
  for (const error of errors) {
    if (found.size >= MOST_FIELDS) break;
    const { instancePath: path, keyword } = error;
    const params = error.params as Readonly<Record<string, unknown>>;
    const options = choices.get(path);
    if (keyword === "const" && options !== undefined) continue;
    // Of a union of shapes, what was wrong with each says more than that none fitted.
    if (
      keyword === "anyOf" &&
      options === undefined &&
      errors.some((other) => other !== error && other.instancePath.startsWith(path))
    )
      continue;
    // Of an object or a list, that it isn't the other says nothing once something in it is wrong.
    if (keyword === "type" && unions.has(path) && errors.some((other) => isInside(other, path))) continue;
    const inner =
      keyword === "required"
        ? params.missingProperty
        : keyword === "additionalProperties"
          ? params.additionalProperty
          : undefined;
    const field = fieldName(path, typeof inner === "string" ? inner : undefined);
    const key = `${field}/${keyword}`;
    if (found.has(key)) continue;
    found.set(key, {
      in: PLACES[context] ?? "body",
      field,
      code: keyword === "anyOf" ? "enum" : keyword,
      message:
        keyword === "additionalProperties" && context === "querystring"
          ? "is not a parameter of this route"
          : messageFor(keyword, params, options, error.message),
    });
  }
  return [...found.values()];
}

function isInside({ instancePath, keyword }: Complaint, path: string): boolean {
  return (
    instancePath.startsWith(`${path}/`) ||
    (instancePath === path && (keyword === "required" || keyword === "additionalProperties"))
  );
}

/** The values of each union of literals, by the path of its field. */
function choicesOf(errors: readonly Complaint[], unions: ReadonlySet<string>): Map<string, unknown[]> {
  const choices = new Map<string, unknown[]>();
  for (const path of unions) {
    const branches = errors.filter((error) => error.instancePath === path && error.keyword !== "anyOf");
    if (branches.length > 0 && branches.every(({ keyword }) => keyword === "const"))
      choices.set(
        path,
        branches.map(({ params }) => params.allowedValue),
      );
  }
  return choices;
}

function messageFor(
  keyword: string,
  params: Readonly<Record<string, unknown>>,
  options: unknown[] | undefined,
  message: string | undefined,
): string {
  if (keyword === "required") return "is missing";
  if (keyword === "additionalProperties") return "is not a field of this request";
  if (keyword === "anyOf" && options !== undefined)
    return `must be one of ${options.map((option) => JSON.stringify(option)).join(", ")}`;
  if (keyword === "enum" && Array.isArray(params.allowedValues))
    return `must be one of ${params.allowedValues.map((value) => JSON.stringify(value)).join(", ")}`;
  return message ?? "is not valid";
}

/** `/transactions/3/amount` as `transactions[3].amount`. */
function fieldName(pointer: string, inner?: string): string {
  const parts = pointer
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  if (inner !== undefined) parts.push(inner);
  return parts
    .map((part) => part.slice(0, 100))
    .reduce((name, part) => (/^\d+$/.test(part) ? `${name}[${part}]` : name === "" ? part : `${name}.${part}`), "");
}
