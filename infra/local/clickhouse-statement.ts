/** A word, a quoted piece or a sign of a statement; comments and white space are left out. */
interface Token {
  /** As written; words in capitals. */
  text: string;
  kind: "word" | "quoted" | "sign";
  /** How many brackets are open around it. */
  depth: number;
  start: number;
  end: number;
}

/** What the HTTP interface has to know of a statement before the engine sees it. */
export interface StatementShape {
  /** The first word, in capitals: SELECT, INSERT, CREATE. */
  verb: string;
  /** The result's format, where the statement names one. */
  format: string | null;
  /** A second statement follows a semicolon. */
  multiple: boolean;
  /** The statement would write its result to a file of the server (INTO OUTFILE). */
  writesFile: boolean;
}

/** An INSERT whose rows come with the request, taken apart so that they can be read from a file. */
export interface DataInsert {
  /** `INSERT INTO table (columns)`. */
  into: string;
  /** `SETTINGS …`, or empty. */
  settings: string;
  format: string;
  /** Data that stands in the statement itself, before the request's body. */
  inlineData: string;
}

/** The shape of a statement; of an INSERT only the verb, for what follows may be data. */
export function shapeOf(sql: string): StatementShape {
  const shape: StatementShape = { verb: "", format: null, multiple: false, writesFile: false };
  let before = "";
  let ended = false;
  for (const token of tokens(sql)) {
    if (shape.verb === "" && token.text !== "(") {
      shape.verb = token.text;
      if (shape.verb === "INSERT") return shape;
    }
    if (ended) shape.multiple = true;
    if (token.depth > 0) continue;
    if (token.text === ";") ended = true;
    if (token.kind === "word" && before === "FORMAT") shape.format = sql.slice(token.start, token.end);
    if (token.kind === "word" && before === "INTO" && token.text === "OUTFILE") shape.writesFile = true;
    before = token.kind === "word" ? token.text : "";
  }
  return shape;
}

/** The parts of an INSERT with data, or null for any other statement (an INSERT … SELECT, too). */
export function dataInsert(sql: string): DataInsert | null {
  let settingsAt = -1;
  let position = 0;
  let wantsName = true;
  let format: Token | null = null;
  let formatAt = -1;
  for (const token of tokens(sql)) {
    position += 1;
    if (position === 1) {
      if (token.text !== "INSERT") return null;
      continue;
    }
    if (formatAt >= 0 && format === null) {
      format = token;
      break;
    }
    if (wantsName) {
      // The table's name may be any word: `INSERT INTO db.format FORMAT CSV`.
      if (position <= 3 && token.kind === "word" && ["INTO", "TABLE", "FUNCTION"].includes(token.text)) continue;
      wantsName = sql[token.end] === "." || token.text === ".";
      continue;
    }
    if (token.depth > 0 || token.kind !== "word") continue;
    if (["SELECT", "WITH", "WATCH", "INFILE"].includes(token.text)) return null;
    if (token.text === "SETTINGS" && settingsAt < 0) settingsAt = token.start;
    if (token.text === "FORMAT") formatAt = token.start;
    if (token.text === "VALUES") {
      formatAt = token.start;
      format = { ...token, text: "Values" };
      break;
    }
  }
  if (format === null) return null;
  const headEnd = settingsAt >= 0 ? settingsAt : formatAt;
  return {
    into: sql.slice(0, headEnd).trimEnd(),
    settings: settingsAt >= 0 ? sql.slice(settingsAt, formatAt).trimEnd() : "",
    format: format.text === "Values" ? "Values" : sql.slice(format.start, format.end),
    inlineData: sql.slice(format.end).replace(/^[ \t]*(;[ \t]*)?\r?\n?/, ""),
  };
}

const SPACE = /(?:\s+|--[^\n]*|#[ !][^\n]*|\/\*[\s\S]*?\*\/)+/y;
const WORD = /[A-Za-z_][A-Za-z0-9_$]*/y;
const QUOTED = /'(?:[^'\\]|\\[\s\S]|'')*'|"(?:[^"\\]|\\[\s\S]|"")*"|`(?:[^`\\]|\\[\s\S]|``)*`/y;
const NUMBER = /[0-9][A-Za-z0-9_.]*/y;

function* tokens(sql: string): Generator<Token> {
  let at = 0;
  let depth = 0;
  const match = (pattern: RegExp): number => {
    pattern.lastIndex = at;
    return pattern.test(sql) ? pattern.lastIndex : at;
  };
  while ((at = match(SPACE)) < sql.length) {
    const start = at;
    let kind: Token["kind"] = "word";
    at = match(WORD);
    if (at === start) {
      at = match(QUOTED);
      kind = at === start ? "sign" : "quoted";
    }
    if (at === start) at = Math.max(match(NUMBER), start + 1);
    const text = kind === "word" ? sql.slice(start, at).toUpperCase() : sql.slice(start, at);
    if (kind === "sign" && /[)\]}]/.test(text)) depth -= 1;
    yield { text, kind, depth, start, end: at };
    if (kind === "sign" && /[([{]/.test(text)) depth += 1;
  }
}
