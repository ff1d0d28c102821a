/** Parts that a feature can take of a text. */
export type TextPart = "email_domain" | "bin" | "ipv4_24";

/** Bytes of the longest part: a domain's (RFC 1035). */
export const LONGEST_PART = 253;
/** ISO/IEC 7812: a card number's digits; the first six are the bank's. */
const BIN_DIGITS = 6;
const LEAST_DIGITS = 12;
const MOST_DIGITS = 19;

const SPACE = 0x20;
const STAR = 0x2a;
const HYPHEN = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const AT = 0x40;
const UPPER_A = 0x41;
const UPPER_X = 0x58;
const UPPER_Z = 0x5a;
const LOWER_X = 0x78;

/**
 * Writes a part of the text that stands in `length` bytes from `at` on; makes no strings.
 *
 * @param out at least LONGEST_PART bytes
 * @returns how many bytes the part has; -1: the text has none
 */
export function readPart(part: TextPart, bytes: Uint8Array, at: number, length: number, out: Uint8Array): number {
  let from = at;
  let end = at + length;
  while (from < end && bytes[from] === SPACE) from += 1;
  while (end > from && bytes[end - 1] === SPACE) end -= 1;
  if (part === "email_domain") return readDomain(bytes, from, end, out);
  return part === "bin" ? readBin(bytes, from, end, out) : readNetwork(bytes, from, end, out);
}

/** What follows the last @, in lower case. */
function readDomain(bytes: Uint8Array, from: number, end: number, out: Uint8Array): number {
  let sign = end - 1;
  while (sign > from && bytes[sign] !== AT) sign -= 1;
  const length = end - sign - 1;
  if (sign <= from || length < 1 || length > LONGEST_PART) return -1;
  for (let i = 0; i < length; i++) {
    const byte = bytes[sign + 1 + i];
    if (byte <= SPACE) return -1;
    out[i] = byte >= UPPER_A && byte <= UPPER_Z ? byte + 32 : byte;
  }
  return length;
}

/** The first six digits of a card number, which may be in groups, and hidden from the seventh digit on. */
function readBin(bytes: Uint8Array, from: number, end: number, out: Uint8Array): number {
  let digits = 0;
  for (let i = from; i < end; i++) {
    const byte = bytes[i];
    if (byte === SPACE || byte === HYPHEN) continue;
    const isDigit = byte >= ZERO && byte <= ZERO + 9;
    const isHidden = byte === STAR || byte === UPPER_X || byte === LOWER_X;
    if (!isDigit && !(isHidden && digits >= BIN_DIGITS)) return -1;
    if (digits < BIN_DIGITS) out[digits] = byte;
    digits += 1;
  }
  return digits >= LEAST_DIGITS && digits <= MOST_DIGITS ? BIN_DIGITS : -1;
}

/** The first three numbers of an IPv4 address, without leading zeros. */
function readNetwork(bytes: Uint8Array, from: number, end: number, out: Uint8Array): number {
  let written = 0;
  let network = 0;
  let octets = 0;
  let digits = 0;
  let value = 0;
  for (let i = from; i <= end; i++) {
    const byte = i === end ? POINT : bytes[i];
    if (byte >= ZERO && byte <= ZERO + 9) {
      value = value * 10 + byte - ZERO;
      digits += 1;
      if (digits > 3) return -1;
      continue;
    }
    if (byte !== POINT || digits === 0 || value > 255 || octets === 4) return -1;
    octets += 1;
    if (octets <= 3) {
      if (octets > 1) out[written++] = POINT;
      if (value > 99) out[written++] = ZERO + Math.floor(value / 100);
      if (value > 9) out[written++] = ZERO + (Math.floor(value / 10) % 10);
      out[written++] = ZERO + (value % 10);
      network = written;
    }
    digits = 0;
    value = 0;
  }
  return octets === 4 ? network : -1;
}

/** Texts as codes of a part of theirs. */
export interface PartCodes {
  /** Of each text, an index into `parts`; -1: it has no such part. */
  codes: Int32Array;
  parts: string[];
}

/** A part of each of some texts, as `readPart` reads it. */
export function partCodes(texts: readonly string[], part: TextPart): PartCodes {
  const codes = new Int32Array(texts.length);
  const known = new Map<string, number>();
  texts.forEach((text, index) => {
    const found = partOf(text, part);
    let code = found === null ? -1 : known.get(found);
    if (code === undefined) known.set(found ?? "", (code = known.size));
    codes[index] = code;
  });
  return { codes, parts: [...known.keys()] };
}

const scratch = Buffer.alloc(LONGEST_PART);

/** A part of a text; null: it has none. */
export function partOf(text: string, part: TextPart): string | null {
  const bytes = Buffer.from(text);
  const length = readPart(part, bytes, 0, bytes.length, scratch);
  return length < 0 ? null : scratch.toString("utf8", 0, length);
}

/** What a value must be for a text's part to equal it; null: it can. */
export function partFault(value: string, part: TextPart): string | null {
  if (part === "bin") return /^\d{6}$/.test(value) ? null : "a BIN: six digits, never a whole card number";
  if (part === "email_domain") return partOf(`x@${value}`, part) === value ? null : "a domain in lower case";
  return partOf(`${value}.0`, part) === value ? null : "the first three numbers of an IPv4 address, such as 192.0.2";
}

/** Of some texts, so many must have a part for them to be texts of its kind. */
const MOST_OF = 0.9;

/** The kind of text that some texts are by their looks: addresses of e-mail or of IPv4; null: neither. */
export function partOfMost(texts: readonly string[]): "email_domain" | "ipv4_24" | null {
  if (texts.length === 0) return null;
  const found = (["email_domain", "ipv4_24"] as const).find(
    (part) => texts.filter((text) => partOf(text, part) !== null).length >= MOST_OF * texts.length,
  );
  return found ?? null;
}
