import { basename } from "node:path";
import { RequestError } from "../../schemas/errors.js";
import { isCurrencyCode } from "../../schemas/currencies.js";
import { currencyOfNumber } from "../../schemas/currency-numbers.js";
import { MAX_ID_BYTES, isLongId } from "../../schemas/ids.js";
import { columnDefaults, isPaired } from "../features/column-defaults.js";
import { addressesOf } from "../features/declared-features.js";
import { operandAttributes } from "../features/features-file.js";
import { LABEL_DELAY_MS } from "../features/history-terms.js";
import { AttributeBuilder } from "./attribute-builder.js";
import type { Role } from "./column-names.js";
import type { RecordSink } from "./records.js";
import type { AttributeColumn, Dataset, OperandColumn } from "./dataset.js";
import { Growing } from "./growing.js";
import { whyIdentifier, type Rows } from "./identifiers.js";
import { badLabel } from "./labels.js";
import { currencySignOf, readNumber } from "./numbers.js";
import type { ReadingPlan } from "./reading-plan.js";
import { composedTime, timeProblem } from "./times/time-reading.js";
import { RELATIVE_TIME_BASE, isMissingMarker, quoted } from "./values.js";

type TextRole = "transaction_id" | "card_id" | "merchant_id" | "currency";

interface TextColumn {
  role: TextRole;
  indexes: readonly number[];
  values: string[];
  interned: Map<string, string> | null;
}

/** Currencies that a note names. */
const MOST_TOLD = 5;

/** Takes records in the file's order; `finish` puts them in the order of event time. */
export class DatasetBuilder implements RecordSink {
  readonly #file: string;
  readonly #plan: ReadingPlan;
  readonly #times = new Growing(Float64Array);
  readonly #texts: TextColumn[];
  readonly #amount = new Growing(Float64Array);
  readonly #label = new Growing(Uint8Array);
  readonly #unlabelled = new Growing(Uint8Array);
  readonly #attributes: { index: number; builder: AttributeBuilder; kept: boolean; declared: boolean }[];
  readonly #notes: string[] = [];
  readonly #signs = new Set<string>();
  readonly #leftOut = new Map<string, string>();
  readonly #currencyNumbers = new Map<string, string>();
  #unlabelledRows = 0;
  #withoutMerchant = 0;

  constructor(file: string, plan: ReadingPlan) {
    this.#file = file;
    this.#plan = plan;
    this.#texts = (["transaction_id", "card_id", "merchant_id", "currency"] as const).flatMap((role) => {
      const indexes = plan.roles[role];
      return indexes === undefined
        ? []
        : [{ role, indexes, values: [], interned: role === "transaction_id" ? null : new Map<string, string>() }];
    });
    this.#attributes = plan.attributes.flatMap((attribute) =>
      "leftOut" in attribute
        ? []
        : [
            {
              index: attribute.index,
              kept: attribute.kept,
              declared: attribute.declared,
              builder: new AttributeBuilder(attribute.name, attribute.kind, attribute.declared),
            },
          ],
    );
    for (const attribute of plan.attributes)
      if ("leftOut" in attribute) this.#leftOut.set(attribute.name, attribute.leftOut);
  }

  add(cells: readonly string[], line: number): void {
    const { event_time, amount = [], label = [] } = this.#plan.roles;
    if (event_time !== undefined) this.#addTime(cells, line, event_time);
    const amountText = cells[amount[0]].trim();
    const value = readNumber(amountText, this.#plan.amountMark);
    if (Number.isNaN(value)) throw this.#bad(line, amount, `${quoted(amountText)} is not a finite number`);
    this.#amount.push(value);
    if (this.#signs.size < 2 && !/^[-+.\d]*$/.test(amountText)) {
      const sign = currencySignOf(amountText);
      if (sign !== null) this.#signs.add(sign);
    }
    const labelText = cells[label[0]].trim();
    const meaning = this.#plan.labelOf(labelText);
    if (meaning === undefined) throw badLabel(this.#file, this.#name(label[0]), line, labelText);
    this.#label.push(meaning ?? 0);
    this.#unlabelled.push(Number(meaning === null));
    if (meaning === null) this.#unlabelledRows += 1;
    for (const text of this.#texts) this.#addText(text, cells, line);
    for (const { index, builder } of this.#attributes) builder.add(cells[index].trim());
  }

  #addTime(cells: readonly string[], line: number, indexes: readonly number[]): void {
    const { time, timeParts, now } = this.#plan;
    if (time === null) return;
    const text = composedTime(timeParts, cells);
    const value = time.parse(text);
    const problem = Number.isNaN(value)
      ? `${quoted(text)} is not ${time.wanted}`
      : timeProblem(value, text, time.how, now);
    if (problem !== null) throw this.#bad(line, indexes, problem);
    this.#times.push(value);
  }

  #addText({ role, indexes, values, interned }: TextColumn, cells: readonly string[], line: number): void {
    const cell = indexes.length === 1 ? cells[indexes[0]].trim() : joined(indexes.map((index) => cells[index].trim()));
    const known = interned?.get(cell);
    if (known !== undefined) {
      values.push(known);
      return;
    }
    const text = this.#checkedText(role, cell, line, indexes);
    // A made-up one is looked for again where its cell is met again.
    if (text === cell || role === "currency") interned?.set(cell, text);
    values.push(text);
  }

  #checkedText(role: TextRole, text: string, line: number, indexes: readonly number[]): string {
    if (role === "currency") return this.#currency(text, line, indexes);
    if (text === "" || isMissingMarker(text)) return this.#withoutId(role, text, line, indexes);
    if (isLongId(text)) throw this.#bad(line, indexes, `the ${role} is longer than ${MAX_ID_BYTES} bytes`);
    return text;
  }

  /** Rows without a merchant are none of one merchant; rows without a card are a mistake. */
  #withoutId(role: TextRole, text: string, line: number, indexes: readonly number[]): string {
    if (role !== "merchant_id")
      throw this.#bad(line, indexes, text === "" ? `the ${role} is empty` : `the ${role} is missing (${quoted(text)})`);
    this.#withoutMerchant += 1;
    return `no-merchant-${this.#label.length}`;
  }

  finish(): Dataset {
    const { length } = this.#label;
    const notes = this.#notes;
    const { roles } = this.#plan;
    const times = this.#takeTimes(length);
    const order = orderOf(times);
    const label = this.#label.take(order);
    const unlabelled = this.#unlabelledRows === 0 ? null : this.#unlabelled.take(order);
    this.#refuseOneClass(label, unlabelled);
    const eventTime = order === null ? times : Float64Array.from(order, (row) => times[row]);
    const transactionId = this.#strings("transaction_id", order, (row) => `tx-${row + 1}`);
    const dataset: Dataset = {
      source: basename(this.#file),
      length,
      transactionId,
      eventTime,
      cardId: this.#strings("card_id", order, (row) => `card-${row + 1}`),
      merchantId: this.#strings("merchant_id", order, (row) => `merchant-${row + 1}`),
      amount: this.#amount.take(order),
      currency: this.#strings("currency", order, () => this.#plan.currency),
      label,
      labelTime: unlabelled === null ? null : labelTimes(eventTime, unlabelled),
      ...(unlabelled && { unlabelled }),
      historyRows: 0,
      // Made-up times are a second apart: no window means anything then.
      hasCards: roles.event_time !== undefined && roles.card_id !== undefined,
      hasMerchants: roles.event_time !== undefined && roles.merchant_id !== undefined,
      attributes: new Map(),
      notes: [],
    };
    this.#noteRoles(transactionId);
    this.#takeAttributes(dataset, order);
    if (order !== null) notes.push("the rows were not in the order of event time; they were sorted");
    dataset.notes = [...this.#plan.notes, ...notes];
    dataset.columns = this.#plan.describe(dataset, this.#leftOut);
    return dataset;
  }

  #noteRoles(transactionId: readonly string[]): void {
    const notes = this.#notes;
    if (this.#plan.roles.transaction_id !== undefined) noteRepeats(transactionId, notes);
    const mark = this.#plan.amountMark === "," ? "numbers with a decimal comma" : undefined;
    this.#recognised("amount", mark);
    this.#recognised("label", this.#plan.labelHow);
    if (this.#unlabelledRows > 0)
      notes.push(
        `${this.#unlabelledRows} rows have no label: they are history only, nothing is trained or tested on them`,
      );
    if (this.#withoutMerchant > 0)
      notes.push(`${this.#withoutMerchant} rows name no merchant: each counts as one of its own`);
    if (this.#signs.size > 1)
      notes.push(
        `WARNING: amounts are in different currencies (${[...this.#signs].join(", ")}), and are read as plain numbers`,
      );
    for (const { name, leftOut } of this.#plan.attributes.flatMap((a) => ("leftOut" in a ? [a] : [])))
      notes.push(`left out: column ${JSON.stringify(name)}, ${leftOut}`);
  }

  #takeAttributes(dataset: Dataset, order: Uint32Array | null): void {
    const notes = this.#notes;
    const { hasCards, cardId } = dataset;
    // Read on for features; kept, and published by a replay, only where one is made of them.
    const operands = new Map<string, OperandColumn>();
    const asked = new Set<string>();
    const noted = new Map<string, number>();
    for (const { builder, kept, declared } of this.#attributes) {
      const { column, leftOut } = builder.finish(order);
      const { name, words } = builder;
      const reason = leftOut ?? whyLeftOut(column, kept, name, { cardId, hasCards, order });
      if (column === null || column.type === "time" || reason !== null) {
        if (column !== null && (declared || column.type === "time" || isPaired(name) || addressesOf(column) !== null))
          operands.set(name, column);
        if (declared) asked.add(name);
        noted.set(name, notes.length);
        notes.push(`left out: column ${JSON.stringify(name)}, ${reason ?? ""}`);
        this.#leftOut.set(name, reason ?? "");
        continue;
      }
      dataset.attributes.set(name, column);
      if (words.size === 0) continue;
      const told = [...words].map(([word, count]) => `${count} of ${quoted(word)}`).join(", ");
      notes.push(`column ${JSON.stringify(name)}: ${told} count as missing values`);
    }
    dataset.operands = operands;
    const made = columnDefaults(dataset);
    const read = new Set([...asked, ...operandAttributes(made.map(({ feature }) => feature))]);
    for (const name of [...operands.keys()])
      if (read.has(name)) notes[noted.get(name) as number] += ONLY_OPERAND;
      else operands.delete(name);
    if (operands.size === 0) delete dataset.operands;
    if (this.#leftOut.size > 0) notes.push("to use a column that was left out: --keep NAME");
    notes.push(...describeAttributes(dataset.attributes));
    const defaults = made.map(({ feature, words }) => `${feature.name} (${words})`);
    if (defaults.length > 0) notes.push(`features from columns, by default: ${defaults.join(", ")}`);
  }

  #takeTimes(length: number): Float64Array {
    const { time } = this.#plan;
    if (time === null) {
      this.#notes.push("event_time: no column; made up in order, a second apart from 2013-09-01");
      return Float64Array.from({ length }, (_, row) => RELATIVE_TIME_BASE + row * 1000);
    }
    this.#recognised("event_time", time.how);
    return this.#times.take(null);
  }

  #strings(role: TextRole, order: Uint32Array | null, made: (row: number) => string): string[] {
    const given = this.#texts.find((text) => text.role === role);
    const weak = role === "transaction_id" && this.#plan.weakId && given !== undefined;
    if (given === undefined || (weak && new Set(given.values).size < given.values.length)) {
      this.#notes.push(
        role === "currency"
          ? `currency: no column; ${this.#plan.currency} everywhere`
          : `${role}: no column${weak ? " that is different on every row" : ""}; ` +
              "made up in the file's order, one a row",
      );
      return Array.from({ length: this.#label.length }, (_, row) => made(order === null ? row : order[row]));
    }
    this.#recognised(role, role === "currency" ? this.#currencyWords() : undefined);
    return order === null ? given.values : Array.from(order, (row) => given.values[row]);
  }

  #recognised(role: Role, how?: string): void {
    const indexes = this.#plan.roles[role];
    if (indexes === undefined) return;
    const names = indexes.map((index) => JSON.stringify(this.#name(index)));
    this.#notes.push(
      `${role}: column${names.length > 1 ? "s" : ""} ${names.join(" + ")}${how === undefined ? "" : `, ${how}`}`,
    );
  }

  /** The stream takes letters only: so a file's numbers are what the numbers stand for. */
  #currencyWords(): string | undefined {
    const told = [...this.#currencyNumbers].slice(0, MOST_TOLD).map(([number, code]) => `${number} is ${code}`);
    return told.length === 0 ? undefined : `numbers of ISO 4217 (${told.join(", ")})`;
  }

  #currency(text: string, line: number, indexes: readonly number[]): string {
    const letters = currencyOfNumber(text);
    if (letters !== null) this.#currencyNumbers.set(text, letters);
    const code = letters ?? (text === "" || isMissingMarker(text) ? this.#plan.currency : text.toUpperCase());
    if (!isCurrencyCode(code))
      throw this.#bad(
        line,
        indexes,
        `${quoted(text)} is not a currency (three letters or digits, ISO 4217); --columns currency= leaves the ` +
          "column out",
      );
    return code;
  }

  #refuseOneClass(label: Uint8Array, unlabelled: Uint8Array | null): void {
    const rows = label.length - this.#unlabelledRows;
    const frauds = label.reduce((sum, value, row) => sum + (unlabelled?.[row] === 1 ? 0 : value), 0);
    if (frauds > 0 && frauds < rows) return;
    const column = JSON.stringify(this.#name(this.#plan.roles.label?.[0] ?? 0));
    const only =
      rows === 0
        ? "no label"
        : `only ${frauds === 0 ? "genuine transactions, no fraud" : "frauds, no genuine transaction"}`;
    throw new RequestError(
      "csv_one_class",
      `${this.#file} lines 2 to the end, column ${column}: the ${label.length} rows hold ${only}; a model needs both`,
    );
  }

  #name(index: number): string {
    return this.#plan.header[index];
  }

  #bad(line: number, indexes: readonly number[], problem: string): RequestError {
    const columns = indexes.map((index) => JSON.stringify(this.#name(index))).join(" + ");
    return new RequestError("csv_bad_value", `${this.#file} line ${line}, column ${columns}: ${problem}`);
  }
}

/** Of a column that is left out: it is read, and replayed, since features are made of it. */
const ONLY_OPERAND = "; features can be made of it";

/** Why a column is no feature, by what it holds; null: it can be one. */
function whyLeftOut(column: OperandColumn | null, kept: boolean, name: string, rows: Rows): string | null {
  return column === null || column.type === "time" || kept ? null : whyIdentifier(name, column, rows);
}

/** Several cells as one id: no two rows whose cells differ get the same. Empty when all are. */
function joined(cells: readonly string[]): string {
  return cells.every((cell) => cell === "" || isMissingMarker(cell))
    ? ""
    : cells.map((cell) => cell.replaceAll("|", "||")).join("|");
}

/** When each label became known; NaN where there is none. */
function labelTimes(eventTime: Float64Array, unlabelled: Uint8Array): Float64Array {
  return eventTime.map((time, row) => (unlabelled[row] === 1 ? Number.NaN : time + LABEL_DELAY_MS));
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
