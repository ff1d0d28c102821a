import type { RecordShape } from "../../schemas/record-shape.js";
import { UsageError } from "../../schemas/errors.js";
import { closestName } from "../../schemas/closest-name.js";
import { text, type Env } from "./settings.js";

export const TRANSACTION_NAMES: readonly string[] = [
  "transaction_id",
  "event_time",
  "card_id",
  "merchant_id",
  "amount",
  "currency",
  "attributes",
];
export const LABEL_NAMES: readonly string[] = ["transaction_id", "card_id", "is_fraud", "label_time"];

const PATH = /^[^\s.,=]+(\.[^\s.,=]+)*$/;

/**
 * `<PREFIX>_ENVELOPE=payload.after` and `<PREFIX>_FIELDS=card_id=pan,event_time=created_at`: how producers' records of
 * a topic hold our fields.
 *
 * @param attributes whether names that aren't ours name attributes
 * @throws UsageError `bad_setting`
 */
export function recordShape(
  env: Env,
  prefix: "TRANSACTIONS" | "LABELS",
  names: readonly string[],
  attributes: boolean,
): RecordShape {
  const bad = (setting: string, value: string, meaning: string): UsageError =>
    new UsageError("bad_setting", `${setting} is ${JSON.stringify(value)}; it must be ${meaning}`);
  const envelope = text(env, `${prefix}_ENVELOPE`);
  if (envelope !== undefined && !PATH.test(envelope))
    throw bad(
      `${prefix}_ENVELOPE`,
      envelope,
      "the path of the field that holds the payload, such as after or payload.after",
    );
  const setting = `${prefix}_FIELDS`;
  const fields = new Map<string, readonly string[]>();
  const sources = new Map<string, string>();
  for (const entry of (text(env, setting) ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")) {
    const at = entry.indexOf("=");
    const [name, path] = [entry.slice(0, Math.max(at, 0)).trim(), entry.slice(at + 1).trim()];
    if (!PATH.test(path) || name === "" || at < 0)
      throw bad(
        setting,
        entry,
        "a comma-separated list of our name = theirs, such as card_id=pan,event_time=created_at",
      );
    if (!attributes && !names.includes(name))
      throw bad(setting, entry, `a list of our name = theirs, where ours is one of ${names.join(", ")}`);
    if (fields.has(name)) throw new UsageError("bad_setting", `${setting} names ${name} twice`);
    const other = sources.get(path);
    if (other !== undefined)
      throw new UsageError("bad_setting", `${setting} takes both ${other} and ${name} from ${path}`);
    sources.set(path, name);
    fields.set(name, path.split("."));
  }
  for (const name of fields.keys()) {
    const meant = closestName(name, names);
    // Whoever has an attribute of nearly the same name says where ours is, too.
    if (meant !== null && !fields.has(meant))
      throw new UsageError(
        "bad_setting",
        `${setting} names ${name}: did you mean ${meant}? An attribute of that name may stand beside ${meant}=…`,
      );
  }
  return { envelope: envelope?.split(".") ?? [], fields };
}
