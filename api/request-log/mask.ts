import { MOST_DIGITS, maskCardNumbers } from "../../infra/card-numbers.js";

/** Fields whose values are never written down, whatever they hold. */
const SECRET_FIELD = /passw|secret|token|authorization|api[-_]?key|credential|cookie|\bcvv|\bcvc|\bpin$/i;
/** What stands for a card id. */
export type CardOf = (id: string) => string;
const CARD_FIELD = "card_id";
const HIDDEN = "[hidden]";

/**
 * A value as JSON for the request log: secrets hidden by their field's name, card numbers wherever they stand, and cut
 * where `most` characters are reached, with the work bounded likewise.
 */
export function maskedJson(value: unknown, most: number, cardOf: CardOf | null = null): string {
  let left = most;
  const spend = (text: string): string => {
    left -= text.length;
    return text;
  };
  const textOf = (text: string): string => {
    // Cut after masking, with room for a card number that begins before the cut.
    const part = maskCardNumbers(text.slice(0, Math.max(0, left) + 2 * MOST_DIGITS));
    return spend(JSON.stringify(part.length < text.length && part.length > left ? `${part.slice(0, Math.max(0, left))}…` : part));
  };
  const write = (item: unknown, depth: number): string => {
    if (left <= 0 || depth > 20) return spend('"…"');
    if (typeof item === "string") return textOf(item);
    if (typeof item === "number" || typeof item === "bigint") {
      const digits = String(item);
      const masked = maskCardNumbers(digits);
      return spend(masked === digits ? (Number.isFinite(Number(item)) ? digits : "null") : JSON.stringify(masked));
    }
    if (typeof item === "boolean" || item === null) return spend(String(item));
    if (Array.isArray(item)) {
      const parts: string[] = [];
      for (const inner of item) {
        if (left <= 0) {
          parts.push('"…"');
          break;
        }
        parts.push(write(inner, depth + 1));
      }
      return `[${parts.join(",")}]`;
    }
    if (item instanceof Date) return textOf(item.toISOString());
    if (typeof item !== "object") return spend("null");
    const parts: string[] = [];
    for (const [name, inner] of Object.entries(item)) {
      if (inner === undefined) continue;
      if (left <= 0) {
        parts.push('"…":true');
        break;
      }
      const key = textOf(name.slice(0, 200));
      const shown: unknown = cardOf !== null && name === CARD_FIELD && typeof inner === "string" ? cardOf(inner) : inner;
      parts.push(`${key}:${SECRET_FIELD.test(name) ? spend(JSON.stringify(HIDDEN)) : write(shown, depth + 1)}`);
    }
    return `{${parts.join(",")}}`;
  };
  return write(value, 0);
}

/** A request's URL for the request log. */
export function maskedUrl(url: string, most: number, cardOf: CardOf | null = null): string {
  const [path, query] = url.slice(0, most + 200).split("?", 2);
  const safe = (text: string): string => maskCardNumbers(decoded(text));
  const pairs = query?.split("&").map((pair) => {
    const [name, ...value] = pair.split("=");
    if (cardOf !== null && decoded(name) === CARD_FIELD) return `${name}=${cardOf(decoded(value.join("=")))}`;
    return SECRET_FIELD.test(decoded(name)) ? `${name}=${HIDDEN}` : safe([name, ...value].join("="));
  });
  return `${safe(path)}${pairs === undefined ? "" : `?${pairs.join("&")}`}`.slice(0, most);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
