/** A text, and for each of its code units the stretch of the first text that it was decoded from. */
export interface DecodedText {
  text: string;
  from: readonly number[];
  to: readonly number[];
}

/** How often escapes may be escaped again, as in `%252534`. */
const MOST_LEVELS = 6;
const HEX = "[0-9a-fA-F]";
const ESCAPE = new RegExp(
  [
    `%[uU]${HEX}{4}`,
    `%${HEX}{2}`,
    `\\\\[uUxX]\\{0*${HEX}{1,6}\\}`,
    `\\\\U${HEX}{8}`,
    `\\\\[uU]${HEX}{4}`,
    `\\\\[xX]${HEX}{2}`,
    "\\\\[0-7]{3}",
    "\\\\[^]",
    "&#0*[0-9]{1,7};?",
    `&#[xX]0*${HEX}{1,6};?`,
    "&[a-zA-Z]{2,31};",
    // Tags that say nothing: what is written in one is looked at as it is.
    "</?[a-zA-Z][^<>0-9%&\\\\]{0,80}>",
  ].join("|"),
  "g",
);

/**
 * What a text says once its escapes are read: those of URLs, JSON, JavaScript, Python and HTML, and its tags, again and
 * again while there are any. Broken escapes are left as they are. Takes time in proportion to the text.
 */
export function* unescapedLevels(text: string): Generator<DecodedText> {
  let level: DecodedText | null = { text, from: [], to: [] };
  for (let turn = 0; turn < MOST_LEVELS; turn++) {
    level = /[%\\&<]/.test(level.text) ? unescapedOnce(level, turn === 0) : null;
    if (level === null) return;
    yield level;
  }
}

/** Null: there was nothing to read. */
function unescapedOnce({ text, from, to }: DecodedText, first: boolean): DecodedText | null {
  const pieces: string[] = [];
  const [froms, tos]: [number[], number[]] = [[], []];
  const push = (piece: string, at: number, end: number): void => {
    pieces.push(piece);
    for (let i = 0; i < piece.length; i++) {
      froms.push(first ? at : from[at]);
      tos.push(first ? end : to[end - 1]);
    }
  };
  const copy = (at: number, end: number): void => {
    for (let i = at; i < end; i++) {
      froms.push(first ? i : from[i]);
      tos.push(first ? i + 1 : to[i]);
    }
    pieces.push(text.slice(at, end));
  };
  let done = 0;
  ESCAPE.lastIndex = 0;
  for (let match = ESCAPE.exec(text); match !== null; match = ESCAPE.exec(text)) {
    copy(done, match.index);
    done = match.index + match[0].length;
    const [character, end] =
      match[0][0] === "%" && match[0][1] !== "u" ? utf8At(text, match.index) : [unescaped(match[0]), done];
    push(character, match.index, end);
    done = ESCAPE.lastIndex = end;
  }
  if (done === 0) return null;
  copy(done, text.length);
  return { text: pieces.join(""), from: froms, to: tos };
}

/** The character whose UTF-8 bytes are escaped as `%XX` from here on, and where its escape ends. */
function utf8At(text: string, at: number): [character: string, end: number] {
  const lead = parseInt(text.slice(at + 1, at + 3), 16);
  const length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  const bytes = [lead];
  for (let next = at + 3; bytes.length < length && /^%[89ab][0-9a-f]$/i.test(text.slice(next, next + 3)); next += 3)
    bytes.push(parseInt(text.slice(next + 1, next + 3), 16));
  if (bytes.length < length) return ["\ufffd", at + 3];
  return [Buffer.from(bytes).toString("utf8").slice(0, 2), at + 3 * length];
}

/** Any separator between digits. */
const SPACE = " ";

function unescaped(escape: string): string {
  if (escape[0] === "<") return SPACE;
  if (/^&amp;$/i.test(escape)) return "&";
  if (escape[0] === "&")
    return escape[1] === "#"
      ? character(/x/i.test(escape[2]) ? parseInt(escape.slice(3), 16) : Number(escape.slice(2).replace(";", "")))
      : SPACE;
  if (escape[0] === "%") return character(parseInt(escape.slice(2), 16));
  if (escape.length === 2) return /[a-z]/i.test(escape[1]) ? SPACE : escape[1];
  if (/^\\[0-7]/.test(escape)) return character(parseInt(escape.slice(1), 8));
  return character(parseInt(escape.slice(2).replace(/[{}]/g, ""), 16));
}

function character(code: number): string {
  return code <= 0x10ffff ? String.fromCodePoint(code) : "\ufffd";
}
