import type { Decision } from "../../../schemas/generated.js";
import type { SeenPrediction } from "./outcomes.js";

/** What a watcher sees at one moment. */
export interface StreamView {
  /** What is streamed, in a few words. */
  source: string;
  seconds: number;
  sent: number;
  /** Transactions a second, lately. */
  rate: number;
  /** From the sending of a transaction to its prediction in the hands of a reader, lately, milliseconds. */
  p50: number | null;
  p99: number | null;
  decisions: Readonly<Record<Decision, number>>;
  alerts: readonly SeenPrediction[];
  labels: number;
  deadLetters: number;
  lastDeadLetter: { code: string; reason: string } | null;
  /** Rows of the predictions table; null: ClickHouse hasn't answered. */
  stored: number | null;
  /** What scoring workers report, such as why predictions are stale. */
  problems: readonly string[];
  /** Event time of the last transaction sent. */
  eventTime: number | null;
}

/** A few lines for a terminal. */
export function panelLines(view: StreamView): string[] {
  const { decisions, lastDeadLetter } = view;
  const lines = [
    `${view.source}${view.eventTime === null ? "" : `, now at ${minute(view.eventTime)}`}`,
    `  transactions  ${count(view.sent)}, ${view.rate.toFixed(view.rate < 10 ? 1 : 0)} a second`,
    `  end to end    p50 ${ms(view.p50)}, p99 ${ms(view.p99)}`,
    `  decisions     approve ${count(decisions.approve)}, review ${count(decisions.review)}, decline ` +
      `${count(decisions.decline)}`,
    `  labels        ${count(view.labels)}`,
    `  ClickHouse    ${view.stored === null ? "no answer" : `${count(view.stored)} predictions`}`,
    `  dead letters  ${count(view.deadLetters)}` +
      (lastDeadLetter === null ? "" : `, the last: ${lastDeadLetter.code}: ${lastDeadLetter.reason}`),
    ...view.problems.map((problem) => `  problem       ${problem}`),
    "  last alerts",
  ];
  const alerts = view.alerts.map((alert) => `    ${alertText(alert)}`);
  return [...lines, ...(alerts.length > 0 ? alerts : ["    none so far"])];
}

/** The same in one line, for a file or a pipe. */
export function plainLine(view: StreamView): string {
  const { decisions } = view;
  const last = view.alerts.at(0);
  return [
    `${view.seconds.toFixed(0)} s`,
    `${count(view.sent)} transactions (${view.rate.toFixed(0)}/s)`,
    `p50 ${ms(view.p50)} p99 ${ms(view.p99)}`,
    `approve ${count(decisions.approve)} review ${count(decisions.review)} decline ${count(decisions.decline)}`,
    `ClickHouse ${view.stored === null ? "no answer" : count(view.stored)}`,
    `dead letters ${count(view.deadLetters)}`,
    ...view.problems.map((problem) => `problem: ${problem}`),
    ...(last === undefined ? [] : [`last alert: ${alertText(last)}`]),
  ].join(" | ");
}

/** Card numbers stay off the screen. */
function alertText(alert: SeenPrediction): string {
  return (
    `${alert.decision.padEnd(7)} ${alert.score.toFixed(3)}  ${alert.amount.toFixed(2)} ${alert.currency} at ` +
    `${alert.merchant_id}, ${minute(alert.event_time)}, ${alert.transaction_id}`
  );
}

export function count(number: number): string {
  return number.toLocaleString("en-US");
}

function ms(value: number | null): string {
  return value === null ? "-" : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

function minute(time: number): string {
  return `${new Date(time).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** What `Screen` needs of standard output. */
export interface Terminal {
  isTTY?: boolean;
  columns?: number;
  /** Whether colours are wanted: Node looks at NO_COLOR and TERM. */
  hasColors?(): boolean;
  write(text: string): unknown;
}

/** What a terminal shows in which colour. */
const COLOURS: readonly (readonly [RegExp, string])[] = [
  [/^ *decline /, "31"],
  [/^ *review /, "33"],
  [/^NOT RIGHT/, "31"],
  [/^Every transaction has exactly one/, "32"],
];

/**
 * Ids, names of files and reasons come from elsewhere: what would steer the terminal, or turn a line round, is shown as
 * `?`.
 */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, "?");
}

/**
 * A line in pieces of at most a width, cut at spaces where there are some; further pieces stand a little to the right
 * of the first.
 */
function fold(line: string, width: number): string[] {
  const indent = " ".repeat(Math.min((/^ */.exec(line)?.[0].length ?? 0) + 4, width / 2));
  const pieces: string[] = [];
  for (let rest = line; ;) {
    if (rest.length <= width) return [...pieces, rest];
    const space = rest.lastIndexOf(" ", width);
    const cut = space > indent.length ? space : width;
    pieces.push(rest.slice(0, cut));
    rest = indent + rest.slice(cut).trimStart();
  }
}

/** Lines that stay, and below them, on a terminal, a panel that is redrawn in place. */
export class Screen {
  readonly #out: Terminal;
  #drawn = 0;

  constructor(out: Terminal) {
    this.#out = out;
  }

  get isTerminal(): boolean {
    return this.#out.isTTY === true;
  }

  /** Writes a line that stays. */
  line(text: string): void {
    this.#out.write(
      `${this.#erase()}${text
        .split("\n")
        .map((each) => this.#coloured(printable(each)))
        .join("\n")}\n`,
    );
    this.#drawn = 0;
  }

  /** What is being done, in place of the panel; a pipe is spared it. */
  status(text: string): void {
    if (this.isTerminal) this.panel([text]);
  }

  /** Draws the panel; on a terminal only. */
  panel(lines: readonly string[]): void {
    // Nothing is cut; a line that the terminal wrapped would throw off the count.
    const folded = lines.flatMap((line) => fold(printable(line), Math.max(20, (this.#out.columns ?? 80) - 1)));
    this.#out.write(`${this.#erase()}${folded.map((line) => this.#coloured(line)).join("\n")}\n`);
    this.#drawn = folded.length;
  }

  /** Leaves the panel where it is: what follows goes below. */
  keep(): void {
    this.#drawn = 0;
  }

  #coloured(line: string): string {
    if (!this.isTerminal || this.#out.hasColors?.() !== true) return line;
    const [, code] = COLOURS.find(([pattern]) => pattern.test(line)) ?? [];
    return code === undefined ? line : `\x1b[${code}m${line}\x1b[0m`;
  }

  #erase(): string {
    return this.#drawn === 0 ? "" : `\x1b[${this.#drawn}A\x1b[0J`;
  }
}
