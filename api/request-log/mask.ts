/** Fields whose values are never written down, whatever they hold. */
const SECRET_FIELD = /passw|secret|token|authorization|api[-_]?key|credential|cookie|\bcvv|\bcvc|\bpin$/i;
/** What stands for a card id. */
export type CardOf = (id: string) => string;
const CARD_FIELD = "card_id";
const HIDDEN = "[hidden]";
const CARD = "[card number]";

/** The lengths of card numbers (ISO/IEC 7812). */
const LEAST_DIGITS = 13;
const MOST_DIGITS = 19;
/** Digits that may be written in groups. */
const DIGIT_RUN = /\d(?:[ -]?\d){12,}/g;

/** What the large networks' numbers begin with, and how long they are; for numbers inside longer runs of digits. */
const NETWORKS: readonly (readonly [begin: RegExp, digits: number])[] = [
  [/^(?:4|5[1-5]|2[2-7]|6)/, 16],
  [/^3[47]/, 15],
  [/^3[068]/, 14],
];

/**
 * A text without the card numbers in it: 13 to 19 digits, also in groups, that pass Luhn's check; and, inside a longer
 * run of digits, whatever passes it and looks like a number of one of the large networks.
 */
export function maskCardNumbers(text: string): string {
  return text.replace(DIGIT_RUN, (run) => {
    const at: number[] = [];
    for (let i = 0; i < run.length; i++) if (run[i] >= "0" && run[i] <= "9") at.push(i);
    const digits = run.replace(/[ -]/g, "");
    if (digits.length <= MOST_DIGITS && passesLuhn(digits)) return CARD;
    let masked = "";
    let done = 0;
    for (let from = 0; from + LEAST_DIGITS <= digits.length; ) {
      const length = cardLengthAt(digits, from);
      if (length === 0) from++;
      else {
        masked += run.slice(done, at[from]) + CARD;
        done = at[from + length - 1] + 1;
        from += length;
      }
    }
    return masked + run.slice(done);
  });
}

/** How many digits from here on are a card number of a large network; 0: none. */
function cardLengthAt(digits: string, from: number): number {
  for (const [begin, length] of NETWORKS) {
    const candidate = digits.slice(from, from + length);
    if (candidate.length === length && begin.test(candidate) && passesLuhn(candidate)) return length;
  }
  return 0;
}

/** The check digit of ISO/IEC 7812. */
function passesLuhn(digits: string): boolean {
  let sum = 0;
  for (let i = 0; i < digits.length; i++) {
    const digit = digits.charCodeAt(digits.length - 1 - i) - 48;
    const weighed = i % 2 === 0 ? digit : digit * 2;
    sum += weighed > 9 ? weighed - 9 : weighed;
  }
  return sum % 10 === 0;
}

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
