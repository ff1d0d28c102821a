import { type DecodedText, unescapedLevels } from "./unescape.js";

/** Replaces a card number. */
export const CARD = "[card number]";

/** The lengths of card numbers (ISO/IEC 7812). */
const LEAST_DIGITS = 13;
const MOST_DIGITS = 19;
/** Between two digits of a number there may be so many characters that are neither letters nor digits. */
const MOST_SEPARATOR = 8;
/**
 * A text that is cut must be looked at so much further for numbers that begin before the cut: 19 digits, escaped twice.
 */
export const LOOK_AHEAD = 400;
/** Between texts that may hold a number together, and between those that may not. */
const JOINT = "\ue000";
const BREAK = "a";

/** A stretch of a text: `to` is exclusive. */
export interface Span {
  from: number;
  to: number;
}

/** Adjacent digits, and the separator before them. */
interface Group {
  first: number;
  count: number;
  separator: string;
  soft: boolean;
}
/** Digits with no letter between them: their values, their positions, and how they are grouped. */
interface Run {
  digits: number[];
  at: number[];
  end: number[];
  groups: Group[];
}

/** A text without the card numbers in it, however they are written. */
export function maskCardNumbers(text: string): string {
  return replaceSpans(text, cardNumbersIn([text])[0]);
}

/** A text with `CARD` in the place of each span. */
export function replaceSpans(text: string, spans: readonly Span[]): string {
  if (spans.length === 0) return text;
  let masked = "";
  let done = 0;
  for (const { from, to } of spans) {
    masked += text.slice(done, from) + CARD;
    done = to;
  }
  return masked + text.slice(done);
}

/**
 * Where card numbers stand in texts that belong together, such as the elements of an array: 13 to 19 digits of any
 * script, also escaped, grouped by anything but letters, or spread over several of the texts, that pass Luhn's check
 * and begin as the numbers of an issuer do; and inside a longer run of digits whatever looks like a number of a large
 * network. Takes time in proportion to the texts.
 *
 * @param texts null: what stands before it and behind it doesn't belong together
 * @returns the spans of each text, in their order and without overlap
 */
export function cardNumbersIn(texts: readonly (string | null)[]): Span[][] {
  const found: Span[][] = texts.map(() => []);
  scanJoined(texts, found);
  // Over again without those that have other things to say: {"a": "4111", "x": "EUR", "b": "1111", …}.
  if (texts.length < 2) return found.map(merged);
  const bare = texts.map((text) => (text === null ? null : /\p{L}/u.test(text) ? undefined : text));
  const parts = bare.filter((text) => typeof text === "string").length;
  if (parts > 1 && bare.includes(undefined)) scanJoined(bare, found);
  return found.map(merged);
}

/** As `cardNumbersIn`, and over again for some of the texts in further orders, which name them by their places. */
export function cardNumbersInOrders(
  texts: readonly (string | null)[],
  orders: readonly (readonly number[])[],
): Span[][] {
  const found = cardNumbersIn(texts);
  for (const order of orders) {
    for (const [i, spans] of cardNumbersIn(order.map((place) => texts[place])).entries())
      found[order[i]].push(...spans);
  }
  return found.map(merged);
}

function scanJoined(texts: readonly (string | null | undefined)[], found: Span[][]): void {
  const starts: number[] = [];
  let joined = "";
  for (const text of texts) {
    if (text !== undefined && joined !== "") joined += JOINT;
    starts.push(joined.length);
    joined += text === undefined ? "" : (text ?? BREAK);
  }
  const spans = spansInEncoded(joined);
  if (mayHold(joined)) scanLevels(joined, spans);
  for (const { from, to } of spans) {
    for (const [i, text] of texts.entries()) {
      if (typeof text !== "string") continue;
      const [begin, end] = [Math.max(from - starts[i], 0), Math.min(to - starts[i], text.length)];
      if (begin < end) found[i].push({ from: begin, to: end });
    }
  }
}

function scanLevels(text: string, spans: Span[]): void {
  scan({ text, from: [], to: [] }, spans);
  for (const level of unescapedLevels(text)) scan(level, spans);
}

/** Base64 of ASCII text, which has hardly anything but these, or hexadecimal digits. */
const ENCODED = /[A-Za-z0-9]{18,}/g;
const HEX_DIGITS = /^(?:[0-9a-f]{2}){13,}$/i;
const PRINTABLE = /^[\t\n\r -~]+$/;

/** What is the base64 or hexadecimal form of a text with a card number in it. */
function spansInEncoded(text: string): Span[] {
  const spans: Span[] = [];
  for (const { 0: token, index } of text.matchAll(ENCODED)) {
    const held = (encoding: "hex" | "base64"): boolean => {
      const decoded = Buffer.from(token, encoding).toString("latin1");
      if (!PRINTABLE.test(decoded) || !mayHold(decoded)) return false;
      const found: Span[] = [];
      scan({ text: decoded, from: [], to: [] }, found);
      return found.length > 0;
    };
    if ((HEX_DIGITS.test(token) && held("hex")) || held("base64"))
      spans.push({ from: index, to: index + token.length });
  }
  return spans;
}

function merged(spans: Span[]): Span[] {
  if (spans.length < 2) return spans;
  const whole: Span[] = [];
  for (const span of spans.sort((a, b) => a.from - b.from)) {
    const last = whole.at(-1);
    if (last !== undefined && span.from < last.to) last.to = Math.max(last.to, span.to);
    else whole.push({ ...span });
  }
  return whole;
}

/** False for most texts, at little cost. */
function mayHold(text: string): boolean {
  let digits = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (isDigit(unit)) digits++;
    else if ((unit > 127 && unit !== 0xe000) || unit === PERCENT || unit === BACKSLASH || unit === AMPERSAND)
      return text.length >= LEAST_DIGITS;
    if (digits >= LEAST_DIGITS) return true;
  }
  return false;
}

const PERCENT = 37;
const AMPERSAND = 38;
const BACKSLASH = 92;
const isDigit = (unit: number): boolean => unit >= 48 && unit <= 57;
const isLetter = (unit: number): boolean => (unit >= 65 && unit <= 90) || (unit >= 97 && unit <= 122);
/** Space, tab, line ends, plus, minus and underscore: people group digits with them in any way. */
const SOFT_ASCII = new Set([9, 10, 11, 12, 13, 32, 43, 45, 95]);

/** Splits a text into runs of digits and judges each. */
function scan({ text, from, to }: DecodedText, spans: Span[]): void {
  let run: Run = { digits: [], at: [], end: [], groups: [] };
  let separatorAt = -1;
  let soft = true;
  const endRun = (): void => {
    if (run.digits.length >= LEAST_DIGITS) {
      judge(run, (first, last) =>
        spans.push(
          from.length === 0
            ? { from: run.at[first], to: run.end[last] }
            : { from: from[run.at[first]], to: to[run.end[last] - 1] },
        ),
      );
    }
    if (run.digits.length > 0) run = { digits: [], at: [], end: [], groups: [] };
    separatorAt = -1;
    soft = true;
  };
  const addDigit = (value: number, at: number, end: number): void => {
    const group = run.groups.at(-1);
    if (separatorAt >= 0 && group !== undefined) {
      const separator = text.slice(separatorAt, at);
      if (separator.length > MOST_SEPARATOR) endRun();
      run.groups.push({ first: run.digits.length, count: 0, separator, soft });
    } else if (group === undefined) run.groups.push({ first: 0, count: 0, separator: "", soft: true });
    const current = run.groups[run.groups.length - 1];
    current.count++;
    run.digits.push(value);
    run.at.push(at);
    run.end.push(end);
    separatorAt = -1;
    soft = true;
  };
  for (let i = 0, next = 0; i < text.length; i = next) {
    const unit = text.charCodeAt(i);
    next = i + 1;
    if (isDigit(unit)) {
      addDigit(unit - 48, i, next);
      continue;
    }
    let kind: CharacterKind;
    if (unit < 128) kind = isLetter(unit) ? "other" : SOFT_ASCII.has(unit) ? "soft" : "hard";
    else {
      const code = text.codePointAt(i) as number;
      if (code > 0xffff) next++;
      kind = kindOf(code);
    }
    if (typeof kind === "number") addDigit(kind, i, next);
    else if (kind === "other") endRun();
    else if (run.digits.length > 0) {
      if (separatorAt < 0) separatorAt = i;
      if (kind === "hard") soft = false;
    }
  }
  endRun();
}

/**
 * A digit's value; `soft`: it may stand between any digits of a number; `hard`: between regular groups; `other`: not
 * inside one.
 */
type CharacterKind = number | "soft" | "hard" | "other";
const KINDS = new Map<number, CharacterKind>();

function kindOf(code: number): CharacterKind {
  let kind = KINDS.get(code);
  if (kind === undefined) {
    kind = findKind(code);
    if (KINDS.size < 10_000) KINDS.set(code, kind);
  }
  return kind;
}

function findKind(code: number): CharacterKind {
  const character = String.fromCodePoint(code);
  if (/\p{Nd}/u.test(character)) {
    // The digits of a script stand in their order, and begin with its zero.
    let zero = code;
    while (/\p{Nd}/u.test(String.fromCodePoint(zero - 1))) zero--;
    return (code - zero) % 10;
  }
  const value = furtherDigit(code);
  if (value >= 0) return value;
  const [digit, ...more] = character.normalize("NFKC").match(/\d/g) ?? [];
  if (digit !== undefined && more.length === 0) return Number(digit);
  if (/[\p{Z}\p{Pd}\p{C}\p{M}\u2212]/u.test(character) && code !== JOINT.charCodeAt(0)) return "soft";
  return /[\p{P}\p{S}]/u.test(character) || code === JOINT.charCodeAt(0) ? "hard" : "other";
}

/**
 * Where digits from 1 to 9 stand in their order that Unicode doesn't decompose: in circles, Ethiopic, of Suzhou; and
 * tags from 0 on.
 */
const ONES = [0x2776, 0x2780, 0x278a, 0x24f5, 0x1369, 0x3021];
const TAG_ZERO = 0xe0030;
const ZEROS = [0x24ff, 0x1f10b, 0x1f10c];
const HAN = "〇一二三四五六七八九";

/** -1: it is none. */
function furtherDigit(code: number): number {
  if (code >= TAG_ZERO && code <= TAG_ZERO + 9) return code - TAG_ZERO;
  if (ZEROS.includes(code)) return 0;
  const one = ONES.find((first) => code >= first && code < first + 9);
  return one === undefined ? HAN.indexOf(String.fromCodePoint(code)) : code - one + 1;
}

/** Calls back with the first and the last digit of each card number in a run. */
function judge(run: Run, found: (first: number, last: number) => void): void {
  for (let from = 0, i = 1; i <= run.groups.length; i++) {
    if (i < run.groups.length && !isFraction(run.groups, i)) continue;
    judgePart(
      { ...run, groups: from === 0 && i === run.groups.length ? run.groups : run.groups.slice(from, i) },
      found,
    );
    from = i + 1;
  }
}

function judgePart(run: Run, found: (first: number, last: number) => void): void {
  const { groups } = run;
  for (let i = 0; i < groups.length;) {
    let j = i + 1;
    while (j < groups.length && groups[j].soft) j++;
    judgeSoft(run, i, j, found);
    i = j;
  }
  if (groups.some(({ soft }) => !soft)) judgeGrouped(run, found);
}

/** Whether a group is the fraction of a number, as programs print it: `12.4532015112830366`. */
function isFraction(groups: readonly Group[], i: number): boolean {
  return i > 0 && groups[i].separator === "." && groups[i].count >= LEAST_DIGITS - 1 && groups[i - 1].count <= 3;
}

/** Groups `i` to `j`, exclusive, with nothing between them but what people put there in any way. */
function judgeSoft({ digits, groups }: Run, i: number, j: number, found: (first: number, last: number) => void): void {
  const last = groups[j - 1];
  const end = last.first + last.count;
  const total = end - groups[i].first;
  if (total < LEAST_DIGITS) return;
  if (total <= MOST_DIGITS && isCard(digits, groups[i].first, total)) return found(groups[i].first, end - 1);
  let from = groups[i].first;
  for (let g = i; g < j;) {
    const group = groups[g];
    const groupEnd = group.first + group.count;
    const length = from + LEAST_DIGITS > end ? 0 : lengthAt(digits, groups, from, g, j);
    from += length === 0 ? 1 : length;
    if (length > 0) found(from - length, from - 1);
    if (from >= groupEnd) while (g < j && groups[g].first + groups[g].count <= from) g++;
  }
}

/** How many digits from `from`, which is in group `g`, are a card number; 0: none. */
function lengthAt(digits: readonly number[], groups: readonly Group[], from: number, g: number, j: number): number {
  const atStart = from === groups[g].first;
  if (atStart) {
    for (let k = g; k < j; k++) {
      const length = groups[k].first + groups[k].count - from;
      if (length > MOST_DIGITS) break;
      if (length >= LEAST_DIGITS && isCard(digits, from, length)) return length;
    }
  }
  const length = networkLength(digits, from);
  if (length === 0 || from + length > digits.length || !passesLuhn(digits, from, length)) return 0;
  const within = from + length <= groups[g].first + groups[g].count;
  if (within || atStart) return from + length <= groups[j - 1].first + groups[j - 1].count ? length : 0;
  let k = g;
  while (k < j && groups[k].first + groups[k].count < from + length) k++;
  return k < j && groups[k].first + groups[k].count === from + length ? length : 0;
}

/** No longer ones are repeated. */
const MOST_GROUP = 8;
/** How else numbers are grouped. */
const SHAPES: readonly (readonly number[])[] = [
  [4, 6, 5],
  [4, 6, 4],
  [6, 10],
  [6, 13],
];

/** Groups that stand apart by something else: all alike, or in a shape that numbers are written in. */
function judgeGrouped({ digits, groups }: Run, found: (first: number, last: number) => void): void {
  const tell = (i: number, j: number): boolean => {
    const { first } = groups[i];
    const total = groups[j].first + groups[j].count - first;
    if (total < LEAST_DIGITS || total > MOST_DIGITS || !isCard(digits, first, total) || !isOfNetwork(digits, first))
      return false;
    found(first, first + total - 1);
    return true;
  };
  // A whole stretch with the same separator.
  for (let i = 0; i < groups.length - 1;) {
    let j = i + 1;
    while (j + 1 < groups.length && groups[j + 1].separator === groups[i + 1].separator) j++;
    tell(i, j);
    i = j;
  }
  // Groups of one size, the last of which may be smaller; small ones only all together, since numbers in lists are
  // small.
  for (let i = 0; i < groups.length; i++) {
    const size = groups[i].count;
    let j = i;
    while (j + 1 < groups.length && groups[j + 1].count === size && (j + 1 - i) * size < MOST_DIGITS) j++;
    const shorter = j + 1 < groups.length && groups[j + 1].count < size ? j + 1 : j;
    if (size > MOST_GROUP) continue;
    if (size >= 3) {
      for (let k = shorter; k > i; k--) if (tell(i, k)) break;
    } else if ((i === 0 || groups[i - 1].count !== size) && groups.at(j + 1)?.count !== size) {
      if (!tell(i, shorter)) tell(i, j);
    }
    for (const shape of SHAPES) {
      if (i + shape.length <= groups.length && shape.every((count, k) => groups[i + k].count === count))
        tell(i, i + shape.length - 1);
    }
  }
}

function isCard(digits: readonly number[], from: number, length: number): boolean {
  return hasIssuer(digits, from, length) && passesLuhn(digits, from, length);
}

/**
 * Whether issuers have numbers of this length that begin so. Times in milliseconds, microseconds and as YYYYMMDD… have
 * none.
 */
function hasIssuer(digits: readonly number[], from: number, length: number): boolean {
  const first = digits[from];
  const two = first * 10 + digits[from + 1];
  if (first === 1) return length === 15;
  if (length >= 16) return two >= 22;
  if (first === 4) return length === 13;
  if (first === 3)
    return two === 34 || two === 37
      ? length === 15
      : two !== 35 && two <= 39 && two !== 31 && two !== 32 && two !== 33 && length >= 14;
  return first === 5 || first === 6;
}

function isOfNetwork(digits: readonly number[], from: number): boolean {
  const two = digits[from] * 10 + digits[from + 1];
  return (two >= 22 && two <= 27) || (two >= 30 && two <= 69);
}

/**
 * How long the large networks' numbers are that begin as these digits do, for numbers inside longer runs of digits; 0:
 * none does.
 */
function networkLength(digits: readonly number[], from: number): number {
  const two = digits[from] * 10 + digits[from + 1];
  if (two === 34 || two === 37) return 15;
  if (two === 30 || two === 36 || two === 38) return 14;
  return (two >= 40 && two <= 49) ||
    (two >= 51 && two <= 55) ||
    (two >= 22 && two <= 27) ||
    (two >= 60 && two <= 69) ||
    two === 35
    ? 16
    : 0;
}

/** The check digit of ISO/IEC 7812. */
function passesLuhn(digits: readonly number[], from: number, length: number): boolean {
  let sum = 0;
  for (let i = 0; i < length; i++) {
    const digit = digits[from + length - 1 - i];
    const weighed = i % 2 === 0 ? digit : digit * 2;
    sum += weighed > 9 ? weighed - 9 : weighed;
  }
  return sum % 10 === 0;
}
