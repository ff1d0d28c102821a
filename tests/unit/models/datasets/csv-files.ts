import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** A folder that is removed when the test is over. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "fraudstream-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A file that is removed when the test is over. */
export function fileWith(content: string | Uint8Array, name = "data.csv"): string {
  const file = join(temporaryFolder(), name);
  writeFileSync(file, content);
  return file;
}

/** Deterministic numbers in [0, 1). */
export function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 4_294_967_296;
  };
}

/** PaySim-shaped: a fraud transfers or cashes out all that there is. */
export function paysimCsv(rows: number): string {
  const random = numbers(1);
  const types = ["PAYMENT", "TRANSFER", "CASH_OUT", "DEBIT", "CASH_IN"];
  const lines = [
    "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud," +
      "isFlaggedFraud",
  ];
  for (let row = 0; row < rows; row++) {
    const fraud = random() < 0.05;
    const type = fraud ? types[1 + Math.floor(random() * 2)] : types[Math.floor(random() * 5)];
    const balance = Math.round(random() * 1e6) / 100;
    const amount = fraud ? balance : Math.round(random() * 1e5) / 100;
    lines.push(
      [
        1 + Math.floor((row * 24) / rows),
        type,
        amount,
        `C${row % 97}`,
        balance,
        fraud ? 0 : Math.max(0, balance - amount),
        `M${row % 31}`,
        0,
        amount,
        Number(fraud),
        Number(fraud && row % 7 === 0),
      ].join(","),
    );
  }
  return `${lines.join("\n")}\n`;
}

/** ULB-shaped, quoted as Kaggle's file is: V1 tells most of a fraud, the other V are noise. */
export function ulbCsv(rows: number): string {
  const random = numbers(2);
  const names = Array.from({ length: 28 }, (_, i) => `V${i + 1}`);
  const lines = [["Time", ...names, "Amount", "Class"].map((name) => `"${name}"`).join(",")];
  for (let row = 0; row < rows; row++) {
    const fraud = random() < 0.08;
    const values = names.map((_, i) => (random() * 4 - 2 - (fraud && i === 0 ? 2.5 : 0)).toFixed(12));
    lines.push([row * 60, ...values, (random() * 200).toFixed(2), fraud ? '"1"' : '"0"'].join(","));
  }
  return `${lines.join("\n")}\n`;
}
