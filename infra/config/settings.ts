import { readFileSync } from "node:fs";
import { UsageError } from "../../schemas/errors.js";

/** An environment, as `readConfig` is given it. */
export type Env = Record<string, string | undefined>;

/** An empty value counts as unset, as compose files and CI systems pass it. */
export function text(env: Env, name: string): string | undefined {
  return env[name] === "" ? undefined : env[name];
}

/** A secret stands in NAME, or in the file that NAME_FILE names. */
export function secret(env: Env, name: string): string | undefined {
  const file = text(env, `${name}_FILE`);
  if (file === undefined) return text(env, name);
  try {
    return readFileSync(file, "utf8").trimEnd();
  } catch (cause) {
    throw new UsageError("bad_setting", `${name}_FILE names ${file}, which cannot be read`, { cause });
  }
}

export function url(env: Env, name: string): string | null {
  const value = text(env, name);
  if (value === undefined) return null;
  if (!URL.canParse(value) || !/^https?:$/.test(new URL(value).protocol))
    throw bad(name, value, "an http or https URL");
  return value.replace(/\/+$/, "");
}

export function integer(env: Env, name: string, fallback: number, least: number, most: number): number {
  const value = text(env, name);
  if (value === undefined) return fallback;
  const number = Number(value);
  if (!/^\d+$/.test(value) || number < least || number > most)
    throw bad(name, value, `a whole number from ${least} to ${most}`);
  return number;
}

/** Milliseconds of an ISO 8601 duration of at most a day. */
export function duration(env: Env, name: string, fallback: string): number {
  const value = text(env, name) ?? fallback;
  const [, hours = "0", minutes = "0", seconds = "0"] =
    /^PT(?=.)(?:(\d{1,2})H)?(?:(\d{1,4})M)?(?:(\d{1,5})S)?$/.exec(value) ?? [];
  const ms = (Number(hours) * 3_600 + Number(minutes) * 60 + Number(seconds)) * 1_000;
  if (ms === 0 || ms > 86_400_000) throw bad(name, value, "an ISO 8601 duration from PT1S to PT24H, such as PT5M");
  return ms;
}

export function matching(env: Env, name: string, fallback: string, pattern: RegExp, meaning: string): string {
  // An empty prefix means something, an empty database name doesn't.
  const value = env[name] === "" && pattern.test("") ? "" : (text(env, name) ?? fallback);
  if (!pattern.test(value)) throw bad(name, value, meaning);
  return value;
}

export function oneOf<const T extends string>(env: Env, name: string, fallback: NoInfer<T>, values: readonly T[]): T {
  const value = text(env, name) ?? fallback;
  const found = values.find((candidate) => candidate === value);
  if (found === undefined) throw bad(name, value, `one of ${values.join(", ")}`);
  return found;
}

/** PEM text, as a secret is given. @param kind what its first line must say */
export function pem(env: Env, name: string, kind: "CERTIFICATE" | "PRIVATE KEY"): string | undefined {
  const value = secret(env, name);
  if (value !== undefined && !new RegExp(`-----BEGIN [A-Z ]*${kind}-----`).test(value))
    throw new UsageError("bad_setting", `${name} holds no PEM text with a ${kind}`);
  return value;
}

/** A key of at least `leastBytes` bytes, as a secret is given. */
export function key(env: Env, name: string, leastBytes: number): string | null {
  const value = secret(env, name) ?? null;
  if (value !== null && Buffer.byteLength(value) < leastBytes)
    throw new UsageError(
      "bad_setting",
      `${name} has ${Buffer.byteLength(value)} bytes; it must have at least ${leastBytes}`,
    );
  return value;
}

/** Whatever stands before an @ may be a password. */
export function bad(name: string, value: string, meaning: string): UsageError {
  return new UsageError(
    "bad_setting",
    `${name} is ${JSON.stringify(value.replace(/^.*@/s, "…@"))}; it must be ${meaning}`,
  );
}
