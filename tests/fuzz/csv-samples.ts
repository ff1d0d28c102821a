import { createReadStream, existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { createGunzip } from "node:zlib";
import { publicFile } from "../support/public-data.js";

const LINES = 200;
const PUBLIC = ["card-transactions.csv.gz", "ulb-creditcard-sample.csv.gz"] as const;

/** The beginnings of CSV files as data scientists have them: one made here, and the public data sets where they are. */
export async function csvSamples(): Promise<string[]> {
  const files = PUBLIC.map(publicFile).filter((file) => existsSync(file));
  return [handbookCsv(), ...(await Promise.all(files.map(headOf)))];
}

async function headOf(file: string): Promise<string> {
  const lines: string[] = [];
  for await (const line of createInterface({ input: createReadStream(file).pipe(createGunzip()) })) {
    lines.push(line);
    if (lines.length > LINES) break;
  }
  return lines.join("\n");
}

/** In the Fraud Detection Handbook's columns; large amounts are frauds. */
function handbookCsv(): string {
  const row = (i: number): string => {
    const amount = ((i * 7_919) % 5_000) / 10;
    return (
      `${i},2018-06-${String(1 + (i % 28)).padStart(2, "0")} ` +
      `0${i % 10}:00:00,${i % 40},${i % 25},${amount},${Number(amount > 400)}`
    );
  };
  return [
    "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD",
    ...Array.from({ length: LINES }, (_, i) => row(i)),
  ].join("\n");
}
