import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { protocolErrors } from "@platformatic/kafka";
import ts from "typescript";
import { expect, test } from "vitest";
import { SETTINGS } from "../../../infra/config/unknown-settings.js";
import { packageRoot } from "../../../infra/package-root.js";
import { ERROR_GROUPS, errorRow } from "../../../schemas/error-codes.js";
import { errorPage } from "../../../schemas/error-page.js";

const root = packageRoot();
const rows = ERROR_GROUPS.flatMap(({ codes }) => Object.entries(codes));

/** A `new` of an error with its code written out, and what its options say. */
interface Throw {
  where: string;
  of: string;
  codes: string[];
  status?: number;
  retriable: boolean;
}

const ERRORS = new Set([
  "FraudstreamError",
  "UsageError",
  "RequestError",
  "TransactionRejected",
  "TokenRefused",
  "ArtifactError",
  "KafkaError",
  "HttpProblem",
]);
const throws: Throw[] = [];
/** Texts of the source that may be codes: not those that are only compared with one. */
const made = new Set<string>();

for (const folder of ["schemas", "infra", "models", "pipelines", "api"]) {
  for (const name of readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".ts") || (folder === "schemas" && /^(error-codes|generated)/.test(name))) continue;
    const path = join(folder, name);
    look(ts.createSourceFile(path, readFileSync(join(root, path), "utf8"), ts.ScriptTarget.Latest, true), path);
  }
}

function look(node: ts.Node, path: string): void {
  if (ts.isStringLiteral(node) && mayBeMade(node.parent)) {
    made.add(node.text);
    if (/^[A-Z_]+$/.test(node.text)) made.add(`kafka_${node.text.toLowerCase()}`);
  }
  if (ts.isNewExpression(node) && ts.isIdentifier(node.expression) && ERRORS.has(node.expression.text)) {
    const of = node.expression.text;
    const [code, , ...options] = node.arguments ?? [];
    const codes = literalsOf(code).map((text) => (of === "KafkaError" ? `kafka_${text.toLowerCase()}` : text));
    throws.push({ where: `${path}: ${node.getText().slice(0, 80)}`, of, codes, ...optionsOf(options) });
  }
  ts.forEachChild(node, (child) => look(child, path));
}

function mayBeMade(parent: ts.Node): boolean {
  if (ts.isBinaryExpression(parent)) return parent.operatorToken.kind === ts.SyntaxKind.QuestionQuestionToken;
  const others = [ts.isArrayLiteralExpression, ts.isLiteralTypeNode, ts.isCaseClause, ts.isImportDeclaration];
  return !others.some((is) => is(parent));
}

function literalsOf(node: ts.Node | undefined): string[] {
  if (node === undefined) return [];
  if (ts.isStringLiteral(node)) return [node.text];
  return ts.isConditionalExpression(node) ? [node.whenTrue, node.whenFalse].flatMap(literalsOf) : [];
}

function optionsOf(options: readonly ts.Node[]): Pick<Throw, "status" | "retriable"> {
  let status: number | undefined;
  let retriable = false;
  const properties = options.flatMap((option) => (ts.isObjectLiteralExpression(option) ? [...option.properties] : []));
  for (const property of properties) {
    if (!ts.isPropertyAssignment(property)) continue;
    const name = property.name.getText();
    if (name === "status" && ts.isNumericLiteral(property.initializer)) status = Number(property.initializer.text);
    if (name === "retriable") retriable = true;
  }
  return { retriable, ...(status === undefined ? {} : { status }) };
}

test("each code has one row, which says what it means, what to do and where it is met", () => {
  expect(new Set(rows.map(([code]) => code)).size).toBe(rows.length);
  for (const [code, { status, otherStatuses = [], retriable, places = [], meaning, remedy }] of rows) {
    expect(code).toMatch(/^[a-z][a-z0-9_]*$/);
    for (const text of [meaning, remedy]) expect(text, code).toMatch(/^\S[^|\n]{5,}\.$/);
    const statuses = [...(status === undefined ? [] : [status]), ...otherStatuses];
    expect(
      statuses.every((one) => one >= 400 && one < 600),
      code,
    ).toBe(true);
    expect(statuses.length + places.length > 0 || retriable === true, `${code} is met nowhere`).toBe(true);
  }
});

test("each setting that the page names is one", () => {
  const named = [...errorPage().matchAll(/\b[A-Z]+(?:_[A-Z]+)+\b/g)].map(([name]) => name);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((name) => !SETTINGS.includes(name as (typeof SETTINGS)[number]))).toEqual([]);
});

test("each code of the table is made somewhere", () => {
  expect(throws.length).toBeGreaterThan(350);
  expect(rows.map(([code]) => code).filter((code) => !made.has(code))).toEqual([]);
});

test("each code that is thrown is in the table, or Kafka's", () => {
  const thrown = throws.flatMap(({ codes }) => codes);
  expect(thrown.length).toBeGreaterThan(350);
  const ofKafka = (code: string): boolean => code.slice("kafka_".length).toUpperCase() in protocolErrors;
  const known = (code: string): boolean => errorRow(code) !== undefined || ofKafka(code);
  expect(thrown.filter((code) => !known(code))).toEqual([]);
});

test("a throw says a status or retriable of its own only where the row leaves it open", () => {
  for (const { where, of, codes, status, retriable } of throws) {
    for (const row of codes.map((code) => errorRow(code))) {
      if (status !== undefined) expect(row?.otherStatuses, where).toContain(status);
      if (retriable && of !== "KafkaError") expect(row?.retriable, where).toBe("sometimes");
    }
  }
});

test("ERRORS.md is what the table says", () => {
  expect(readFileSync(join(root, "schemas/ERRORS.md"), "utf8") === errorPage(), "run `npm run errors`").toBe(true);
});
