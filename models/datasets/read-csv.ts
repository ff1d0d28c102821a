import { basename } from "node:path";
import { RequestError } from "../../schemas/errors.js";
import { AttributeBuilder, Growing } from "./attribute-builder.js";
import { planColumns, type ColumnOverrides, type ColumnPlan, type Role } from "./columns.js";
import { readRecords, type ReadOptions, type RecordSink } from "./csv-records.js";
import type { AttributeColumn, Dataset } from "./dataset.js";
import { TimeBuilder } from "./time-builder.js";
import { parseLabel, parseNumber, quoted, RELATIVE_TIME_BASE } from "./values.js";

/** ISO 4217 for "no currency": nothing is claimed that the file doesn't say. */
export const DEFAULT_CURRENCY = "XXX";

export interface CsvOptions extends ReadOptions {
  columns?: ColumnOverrides;
  /** Of transactions that don't name theirs. @default "XXX" */
  currency?: string;
}

/**
 * Reads labelled transactions from a CSV file, plain or gzipped, in one pass into typed arrays (see AttributeBuilder
 * for how types are found). Columns are recognised by name (columns.ts); `notes` say what was recognised, made up or
 * left out.
 *
 * @throws RequestError one line that names file, line and column; those of `readRecords` and `planColumns`, and
 * `csv_bad_value`, `csv_one_class`, `bad_currency`
 */
export async function readCsv(file: string, options: CsvOptions = {}): Promise<Dataset> {
  const currency = options.currency ?? DEFAULT_CURRENCY;
  if (!/^[A-Z]{3}$/.test(currency))
    throw new RequestError(
      "bad_currency",
      `the currency is ${quoted(currency)}; it must be three capital letters (ISO 4217)`,
    );
  const builder = await readRecords(
    file,
    (header) => new DatasetBuilder(file, header, planColumns(file, header, options.columns ?? {}), currency),
    options,
  );
  return builder.finish();
}

/** Takes records in the file's order; `finish` puts them in the order of event time. */
class DatasetBuilder implements RecordSink {
  readonly #file: string;
  readonly #header: readonly string[];
  readonly #plan: ColumnPlan;
  readonly #defaultCurrency: string;
  readonly #time: TimeBuilder | null;
  readonly #texts: {
    role: "transaction_id" | "card_id" | "merchant_id" | "currency";
    index: number;
    values: string[];
    interned: Map<string, string> | null;
  }[];
  readonly #amount = new Growing(Float64Array);
  readonly #label = new Growing(Uint8Array);
  readonly #attributes: { index: number; builder: AttributeBuilder }[];
  readonly #notes: string[] = [];

  constructor(file: string, header: readonly string[], plan: ColumnPlan, currency: string) {
    this.#file = file;
    this.#header = header;
    this.#plan = plan;
    this.#defaultCurrency = currency;
    this.#time = plan.roles.event_time === undefined ? null : new TimeBuilder(header[plan.roles.event_time]);
    this.#texts = (["transaction_id", "card_id", "merchant_id", "currency"] as const).flatMap((role) => {
      const index = plan.roles[role];
      return index === undefined
        ? []
        : [{ role, index, values: [], interned: role === "transaction_id" ? null : new Map<string, string>() }];
    });
    this.#attributes = plan.attributes.map(({ index, name }) => ({ index, builder: new AttributeBuilder(name) }));
  }

  add(cells: readonly string[], line: number): void {
    const { event_time, amount = -1, label = -1 } = this.#plan.roles;
    if (event_time !== undefined) {
      const problem = this.#time?.add(cells[event_time].trim(), line);
      if (problem) throw this.#bad(line, event_time, problem);
    }
    const amountText = cells[amount].trim();
    const amountValue = parseNumber(amountText);
    if (Number.isNaN(amountValue)) throw this.#bad(line, amount, `${quoted(amountText)} is not a finite number`);
    this.#amount.push(amountValue);
    const labelValue = parseLabel(cells[label].trim());
    if (labelValue === undefined)
      throw this.#bad(line, label, `${quoted(cells[label])} is not a label (0 or 1, true or false)`);
    this.#label.push(labelValue);
    for (const { role, index, values, interned } of this.#texts) {
      let text = cells[index].trim();
      if (role === "currency") text = this.#currency(text, line, index);
      else if (text === "") throw this.#bad(line, index, `the ${role} is empty`);
      if (interned !== null) {
        const known = interned.get(text);
        if (known === undefined) interned.set(text, text);
        else text = known;
      }
      values.push(text);
    }
    for (const { index, builder } of this.#attributes) builder.add(cells[index].trim(), line);
  }

  finish(): Dataset {
    const length = this.#label.length;
    const notes = this.#notes;
    const times = this.#times(length);
    const order = orderOf(times);
    const label = this.#label.take(order);
    this.#refuseOneClass(label);
    const transactionId = this.#strings("transaction_id", order, (row) => `tx-${row + 1}`);
    const dataset: Dataset = {
      source: basename(this.#file),
      length,
      transactionId,
      eventTime: order === null ? times : Float64Array.from(order, (row) => times[row]),
      cardId: this.#strings("card_id", order, (row) => `card-${row + 1}`),
      merchantId: this.#strings("merchant_id", order, (row) => `merchant-${row + 1}`),
      amount: this.#amount.take(order),
      currency: this.#strings("currency", order, () => this.#defaultCurrency),
      label,
      labelTime: null,
      historyRows: 0,
      // Made-up times are a second apart: no window means anything then.
      hasCards: this.#plan.roles.event_time !== undefined && this.#plan.roles.card_id !== undefined,
      hasMerchants: this.#plan.roles.event_time !== undefined && this.#plan.roles.merchant_id !== undefined,
      attributes: new Map(),
      notes: [],
    };
    if (this.#plan.roles.transaction_id !== undefined) noteRepeats(transactionId, notes);
    this.#recognised("amount");
    this.#recognised("label");
    notes.push(...this.#plan.notes);
    for (const { builder } of this.#attributes) {
      const column = builder.finish(order);
      if (typeof column === "string") notes.push(`left out: column ${JSON.stringify(builder.name)}, ${column}`);
      else dataset.attributes.set(builder.name, column);
    }
    notes.push(...describeAttributes(dataset.attributes));
    if (order !== null) notes.push("the rows were not in the order of event time; they were sorted");
    dataset.notes = notes;
    return dataset;
  }

  #times(length: number): Float64Array {
    const index = this.#plan.roles.event_time;
    if (this.#time === null || index === undefined) {
      this.#notes.push("event_time: no column; made up in order, a second apart from 2013-09-01");
      return Float64Array.from({ length }, (_, row) => RELATIVE_TIME_BASE + row * 1000);
    }
    const { times, note, problem } = this.#time.finish();
    if (problem !== null) throw this.#bad(problem.line, index, problem.message);
    this.#recognised("event_time", note);
    return times;
  }

  #strings(
    role: "transaction_id" | "card_id" | "merchant_id" | "currency",
    order: Uint32Array | null,
    made: (row: number) => string,
  ): string[] {
    const given = this.#texts.find((text) => text.role === role);
    if (given === undefined) {
      this.#notes.push(
        role === "currency"
          ? `currency: no column; ${this.#defaultCurrency} everywhere`
          : `${role}: no column; made up in the file's order, one a row`,
      );
      return Array.from({ length: this.#label.length }, (_, row) => made(order === null ? row : order[row]));
    }
    this.#recognised(role);
    return order === null ? given.values : Array.from(order, (row) => given.values[row]);
  }

  #recognised(role: Role, how?: string): void {
    const index = this.#plan.roles[role];
    if (index !== undefined)
      this.#notes.push(`${role}: column ${JSON.stringify(this.#header[index])}${how === undefined ? "" : `, ${how}`}`);
  }

  #currency(text: string, line: number, index: number): string {
    const code = text === "" ? this.#defaultCurrency : text.toUpperCase();
    if (!/^[A-Z]{3}$/.test(code))
      throw this.#bad(line, index, `${quoted(text)} is not a currency (three letters, ISO 4217)`);
    return code;
  }

  #refuseOneClass(label: Uint8Array): void {
    const frauds = label.reduce((sum, value) => sum + value, 0);
    if (frauds > 0 && frauds < label.length) return;
    const column = JSON.stringify(this.#header[this.#plan.roles.label ?? 0]);
    const only = frauds === 0 ? "genuine transactions, no fraud" : "frauds, no genuine transaction";
    throw new RequestError(
      "csv_one_class",
      `${this.#file} lines 2 to the end, column ${column}: the ${label.length} rows hold only ${only}; a ` +
        "model needs both",
    );
  }

  #bad(line: number, index: number, problem: string): RequestError {
    return new RequestError(
      "csv_bad_value",
      `${this.#file} line ${line}, column ${JSON.stringify(this.#header[index])}: ${problem}`,
    );
  }
}

/** The rows in the order of time, ties as they came; null where they already are. */
function orderOf(times: Float64Array): Uint32Array | null {
  let sorted = true;
  for (let row = 1; row < times.length && sorted; row++) sorted = times[row - 1] <= times[row];
  if (sorted) return null;
  return Uint32Array.from(times.keys()).sort((a, b) => times[a] - times[b] || a - b);
}

function noteRepeats(ids: readonly string[], notes: string[]): void {
  const repeats = ids.length - new Set(ids).size;
  if (repeats > 0)
    notes.push(`${repeats} rows repeat a transaction_id; the stream refuses a repeat for the same card within a day`);
}

function describeAttributes(attributes: ReadonlyMap<string, AttributeColumn>): string[] {
  return (["number", "boolean", "text"] as const).flatMap((type) => {
    const names = [...attributes].filter(([, column]) => column.type === type).map(([name]) => name);
    return names.length === 0 ? [] : [`attributes (${type}): ${names.join(", ")}`];
  });
}
