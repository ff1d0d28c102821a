import type { RandomSource } from "../support/random-source.js";
import { RandomSource as Seeded } from "../support/random-source.js";
import { CARD_MARK, SECRET_MARK, type Findings } from "./findings.js";
import { ODD_TEXTS, mutated } from "./mutate.js";

/** A request as it goes out, and what comes back. `null`: no answer came. */
export interface FuzzRequest {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: Buffer | null;
}
export interface FuzzAnswer {
  status: number;
  headers: Record<string, unknown>;
  text: string;
  ms: number;
}
export type Ask = (request: FuzzRequest) => Promise<FuzzAnswer | null>;

export interface HttpCounts {
  requests: number;
  statuses: Record<string, number>;
}

interface Schema {
  type?: string | string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  $ref?: string;
  required?: string[];
  minimum?: number;
  maximum?: number;
  pattern?: string;
  additionalProperties?: boolean | Schema;
  patternProperties?: Record<string, Schema>;
}
interface Operation {
  parameters?: { name: string; in: string; schema: Schema }[];
  requestBody?: { content: Record<string, { schema?: Schema }> };
}
interface Route {
  method: string;
  path: string;
  operation: Operation;
}

/** Calls that may take long by what they promise: a deployment waits for every worker. */
const MAY_WAIT = /\/(enabled|thresholds|undo)$/;
/** Answers 503 in a form of its own where something isn't ready: that is what it is for. */
const PROBE = "/health/ready";
const MOST_MS = 1_000;
const DEEP = 2_000;

/**
 * Requests of every route of an OpenAPI document, most of them with an error: no answer may be a 5xx, or late, or hold
 * a secret or a card number that the request did not contain.
 *
 * @param secrets what no answer may hold
 * @param cpuMs processor time of the API so far; a slow answer is a finding only when the API itself was busy for that
 *   long
 */
export async function fuzzHttp(
  seed: number,
  count: number,
  {
    document,
    ask,
    tokens,
    secrets,
    cpuMs,
  }: {
    document: Record<string, unknown>;
    ask: Ask;
    tokens: readonly string[];
    secrets: readonly string[];
    cpuMs: () => number;
  },
  findings: Findings,
  onProgress: (done: number) => void = () => {},
  signal?: AbortSignal,
): Promise<HttpCounts> {
  const counts: HttpCounts = { requests: 0, statuses: {} };
  const routes = Object.entries(document["paths"] as Record<string, Record<string, Operation>>)
    .flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
    )
    .filter(({ path }) => path !== PROBE);
  for (let n = 0; n < count && signal?.aborted !== true; n++) {
    const random = new Seeded(seed * 100_003 + n);
    // Every route in turn, so that none is left out.
    const route = routes[n % routes.length];
    const request = requestOf(random, route, document, tokens);
    const how = (): string =>
      `seed ${seed}, request ${n}: ${request.method} ${request.path.slice(0, 200)} ` +
      `${JSON.stringify({ ...request.headers, authorization: undefined })} ` +
      `${(request.body ?? "").toString().slice(0, 300)}`;
    const before = cpuMs();
    const answer = await ask(request);
    const busyMs = cpuMs() - before;
    counts.requests += 1;
    if (answer === null) findings.add("no answer came", how());
    else {
      counts.statuses[answer.status] = (counts.statuses[answer.status] ?? 0) + 1;
      if (answer.status >= 500 && !answer.text.includes('"no_champion"'))
        findings.add(`was answered ${answer.status}: ${answer.text.slice(0, 300)}`, how());
      if (answer.ms > MOST_MS && busyMs > MOST_MS && !MAY_WAIT.test(route.path))
        findings.add(`took ${answer.ms.toFixed(0)} ms, ${busyMs.toFixed(0)} ms of processor time`, how());
      if (answer.status >= 400) checkProblem(request, answer, (what) => findings.add(what, how()));
      for (const secret of secrets)
        if (answer.text.includes(secret)) findings.add(`the answer holds a secret (${answer.status})`, how());
    }
    onProgress(counts.requests);
  }
  return counts;
}

/** Whatever is refused says so in the form that is promised, and quotes neither cards nor secrets of the body. */
function checkProblem(
  { path }: FuzzRequest,
  { status, headers, text }: FuzzAnswer,
  complain: (what: string) => void,
): void {
  const type = headers["content-type"];
  if (typeof type !== "string" || !type.startsWith("application/problem+json"))
    return complain(`${status} as ${String(type)}: ${text.slice(0, 200)}`);
  try {
    const { code } = JSON.parse(text) as { code?: unknown };
    if (typeof code !== "string" || code === "") complain(`${status} without a code: ${text.slice(0, 200)}`);
  } catch {
    complain(`${status} is no JSON: ${text.slice(0, 200)}`);
  }
  // What isn't there may be named by the address that was asked for.
  if ([CARD_MARK, SECRET_MARK].some((mark) => text.includes(mark) && !path.includes(mark)))
    complain(`${status} quotes what was sent: ${text.slice(0, 400)}`);
}

function requestOf(
  random: RandomSource,
  { method, path, operation }: Route,
  document: Record<string, unknown>,
  tokens: readonly string[],
): FuzzRequest {
  const make = (schema: Schema | undefined): unknown => valueOf(random, schema ?? {}, document, 0);
  const parameters = operation.parameters ?? [];
  let url = path.replace(
    /\{(\w+)\}/g,
    (_, name: string) =>
      escaped(
        random.next() < 0.5
          ? textOf(random)
          : asText(make(parameters.find((parameter) => parameter.name === name)?.schema)),
      ) || "x",
  );
  // What is deployed stays deployed: the other routes need it.
  if (MAY_WAIT.test(path)) url = url.replace("champion%401", "no-such-model%401");
  const query = parameters
    .filter((parameter) => parameter.in === "query" && random.next() < 0.5)
    .map(({ name, schema }) => `${name}=${escaped(random.next() < 0.4 ? textOf(random) : asText(make(schema)))}`);
  if (random.next() < 0.1) query.push(`${escaped(random.pick(ODD_TEXTS))}=${escaped(textOf(random))}`);
  if (query.length > 0) url += `?${query.join("&")}`;
  if (random.next() < 0.03) url += random.pick(["/", "//", "/..", "%", "%zz", "?%", "#x", ";a=b", "\\"]);
  const headers: Record<string, string> = {};
  const signed = random.next();
  if (signed < 0.9 && tokens.length > 0) headers["authorization"] = `Bearer ${random.pick(tokens)}`;
  else if (signed < 0.95)
    headers["authorization"] = random.pick([
      "Bearer",
      "Bearer x.y.z",
      "Basic eDp5",
      `Bearer ${"a".repeat(5_000)}.b.c`,
      `Bearer ${SECRET_MARK}.b.c`,
    ]);
  const content = Object.entries(operation.requestBody?.content ?? {})[0];
  if (content === undefined && random.next() > 0.1) return { method, path: url, headers, body: null };
  headers["content-type"] =
    random.next() < 0.9
      ? (content?.[0] ?? "application/json")
      : random.pick([
          "text/plain",
          "application/xml",
          "application/json; charset=utf-7",
          "multipart/form-data",
          "multipart/form-data; boundary=",
          "x",
          "application/json,application/json",
        ]);
  return { method, path: url, headers, body: bodyOf(random, headers, content?.[1].schema, make) };
}

function bodyOf(
  random: RandomSource,
  headers: Record<string, string>,
  schema: Schema | undefined,
  make: (schema: Schema | undefined) => unknown,
): Buffer {
  if (headers["content-type"].startsWith("multipart/form-data")) {
    headers["content-type"] = "multipart/form-data; boundary=b";
    const part = (name: string): string => {
      const file = random.next() < 0.7 ? '; filename="x"' : "";
      const text = random.pick(["{}", "[]", asText(make(undefined)), random.bytes(50).toString("latin1"), ""]);
      return `--b\r\ncontent-disposition: form-data; name="${name}"${file}\r\n\r\n${text}\r\n`;
    };
    const bytes = Buffer.from(
      `${["manifest", "model", "samples", random.pick(ODD_TEXTS)]
        .filter(() => random.next() < 0.8)
        .map(part)
        .join("")}--b--\r\n`,
      "latin1",
    );
    return random.next() < 0.3 ? mutated(bytes, random, () => bytes) : bytes;
  }
  const kind = random.next();
  if (kind < 0.02) return Buffer.from("[".repeat(DEEP) + "]".repeat(DEEP));
  if (kind < 0.04) return Buffer.from(`${'{"a":'.repeat(DEEP)}1${"}".repeat(DEEP)}`);
  if (kind < 0.05) return Buffer.from(JSON.stringify({ x: "y".repeat(random.pick([1_000, 900_000, 1_100_000])) }));
  if (kind < 0.06) return random.bytes(random.int(200));
  if (kind < 0.07) return Buffer.alloc(0);
  const text = JSON.stringify(make(schema) ?? null);
  if (kind < 0.15) return mutated(Buffer.from(text), random, () => Buffer.from(text));
  if (kind < 0.2)
    return Buffer.from(text.replace("{", `{"__proto__":{"admin":true},"constructor":{"prototype":{"x":1}},`));
  if (kind < 0.23)
    return Buffer.from(
      text.replace(/-?\d+(\.\d+)?/, () =>
        random.pick(["1e999", "-1e999", "123456789012345678901234567890", "0.1e-400"]),
      ),
    );
  return Buffer.from(text);
}

/** A value of a schema, or of another in its place, now and then. */
function valueOf(random: RandomSource, schema: Schema, document: Record<string, unknown>, depth: number): unknown {
  if (random.next() < 0.08 || depth > 8) return oddValue(random);
  if (schema.$ref !== undefined) return valueOf(random, resolved(schema.$ref, document), document, depth);
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives !== undefined) return valueOf(random, random.pick(alternatives), document, depth);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return random.pick(schema.enum);
  const type = Array.isArray(schema.type) ? random.pick(schema.type) : schema.type;
  switch (type) {
    case "object": {
      const object: Record<string, unknown> = {};
      for (const [name, property] of Object.entries(schema.properties ?? {}))
        if (random.next() < (schema.required?.includes(name) === true ? 0.97 : 0.4))
          object[name] = valueOf(random, property, document, depth + 1);
      const [others] = Object.values(schema.patternProperties ?? {});
      if (others !== undefined || typeof schema.additionalProperties === "object")
        for (let i = random.int(4); i > 0; i--)
          object[random.pick(ODD_TEXTS)] = valueOf(
            random,
            others ?? (schema.additionalProperties as Schema),
            document,
            depth + 1,
          );
      if (random.next() < 0.05)
        Object.defineProperty(object, random.pick(ODD_TEXTS), { value: oddValue(random), enumerable: true });
      return object;
    }
    case "array":
      return Array.from({ length: random.next() < 0.03 ? 1_500 : random.int(4) }, () =>
        valueOf(random, schema.items ?? {}, document, depth + 1),
      );
    case "integer":
    case "number":
      return random.pick([
        schema.minimum ?? 0,
        schema.maximum ?? 1,
        (schema.minimum ?? 0) - 1,
        (schema.maximum ?? 1e9) + 1,
        random.int(100),
        random.next(),
        2 ** 53,
      ]);
    case "boolean":
      return random.next() < 0.5;
    case "null":
      return null;
    case undefined:
    default:
      return fitting(random, schema.pattern);
  }
}

/** A text that may fit a pattern: one of those that this API asks for. */
function fitting(random: RandomSource, pattern: string | undefined): string {
  if (pattern === undefined) return textOf(random);
  const known = ["EUR", "2026-01-15T12:00:00Z", "P7D", "a-name", "champion@1", "7", `${CARD_MARK}0001`].filter((text) =>
    new RegExp(pattern, "u").test(text),
  );
  return known.length > 0 && random.next() < 0.8 ? random.pick(known) : textOf(random);
}

function textOf(random: RandomSource): string {
  return random.next() < 0.4
    ? random.pick([
        `${CARD_MARK}${random.int(100)}`,
        `${SECRET_MARK}-long-enough`,
        "fuzz",
        "champion@1",
        "t-1",
        "P1D",
        "https://127.0.0.1:1/x.csv",
        "no-such-model@1",
      ])
    : random.pick(ODD_TEXTS);
}

function oddValue(random: RandomSource): unknown {
  return random.pick<() => unknown>([
    () => null,
    () => true,
    () => -1,
    () => 1.5,
    () => 1e308,
    () => textOf(random),
    () => [],
    () => ({}),
    () => [[], {}],
    () => ({ [random.pick(ODD_TEXTS)]: textOf(random) }),
    () => "z".repeat(random.int(20_000)),
  ])();
}

/** Percent-encoded; half a surrogate pair becomes the replacement character, as a browser sends it. */
function escaped(text: string): string {
  return encodeURIComponent(Buffer.from(text).toString());
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "");
}

function resolved(ref: string, document: Record<string, unknown>): Schema {
  return ref
    .split("/")
    .slice(1)
    .reduce<unknown>((at, name) => (at as Record<string, unknown> | undefined)?.[name], document) as Schema;
}
