import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { AttributeColumn, Dataset } from "../../../models/datasets/dataset.js";

/**
 * Writes data sets of one kind, one after the other, as a CSV file whose columns `readCsv` recognises; nothing is held
 * but one of them.
 */
export async function writeCsv(file: string, datasets: Iterable<Dataset>): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await pipeline(Readable.from(texts(datasets)), createWriteStream(file, { mode: 0o600 }));
}

function* texts(datasets: Iterable<Dataset>): Generator<string> {
  let header: string | null = null;
  for (const dataset of datasets) {
    if (header === null) {
      header = line([
        "transaction_id",
        "event_time",
        "card_id",
        "merchant_id",
        "amount",
        "currency",
        "is_fraud",
        ...dataset.attributes.keys(),
      ]);
      yield header;
    }
    let text = "";
    for (let row = 0; row < dataset.length; row++) {
      const { transactionId, eventTime, cardId, merchantId, amount, currency, label, attributes } = dataset;
      const own = [
        transactionId[row],
        new Date(eventTime[row]).toISOString(),
        cardId[row],
        merchantId[row],
        String(amount[row]),
        currency[row],
        String(label[row]),
      ];
      text += line([...own, ...Array.from(attributes.values(), (column) => cell(column, row))]);
    }
    yield text;
  }
}

/** Empty: absent. */
function cell(column: AttributeColumn, row: number): string {
  if (column.type === "text") return column.codes[row] < 0 ? "" : column.categories[column.codes[row]];
  const value = column.values[row];
  if (Number.isNaN(value)) return "";
  return column.type === "boolean" ? String(value === 1) : String(value);
}

function line(cells: readonly string[]): string {
  return `${cells.map((text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)).join(",")}\n`;
}
