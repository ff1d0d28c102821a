// Writes schemas/generated.ts from schemas/avro/*.avsc, so that a schema and its type are one text.
// `node schemas/generate.mjs --check` fails when the file is not what the schemas say.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const here = new URL("./", import.meta.url);
const out = new URL("generated.ts", here);
const namespace = "fraudstream";
const WIDTH = 120;
const interfaces = new Map();

function typeOf(schema) {
  if (Array.isArray(schema))
    return schema
      .map((branch) => (isRecord(branch) && schema.filter(isRecord).length > 1 ? wrapped(branch) : typeOf(branch)))
      .join(" | ");
  if (typeof schema === "string") {
    const primitives = {
      string: "string",
      int: "number",
      long: "number",
      float: "number",
      double: "number",
      boolean: "boolean",
      null: "null",
      bytes: "Buffer",
    };
    return primitives[schema] ?? schema;
  }
  switch (schema.type) {
    case "record": {
      const fields = schema.fields.map((field) => {
        return `${docstring(field.doc, "  ")}${property(field.name, typeOf(field.type))}`;
      });
      const body = fields.length
        ? `export interface ${schema.name} {\n${fields.join("\n")}\n}`
        : `export type ${schema.name} = Record<string, never>;`;
      interfaces.set(schema.name, `${docstring(schema.doc)}${body}`);
      return schema.name;
    }
    case "enum":
      interfaces.set(
        schema.name,
        `export type ${schema.name} = ${schema.symbols.map((s) => JSON.stringify(s)).join(" | ")};`,
      );
      return schema.name;
    case "array":
      return arrayOf(typeOf(schema.items));
    case "map":
      return `Record<string, ${typeOf(schema.values)}>`;
    default:
      return typeOf(schema.type);
  }
}
/** A docstring of lines of at most 120 columns; none for no text. */
function docstring(text, indent = "") {
  if (!text) return "";
  const line = `${indent}/** ${text} */`;
  if (line.length <= WIDTH) return `${line}\n`;
  const lines = [""];
  for (const word of text.split(" ")) {
    if (`${indent} *${lines.at(-1)} ${word}`.length > WIDTH) lines.push("");
    lines[lines.length - 1] += ` ${word}`;
  }
  return `${indent}/**\n${lines.map((part) => `${indent} *${part}\n`).join("")}${indent} */\n`;
}
/** A union that is longer than a line has a line for each of its types. */
function property(name, type) {
  const line = `  ${name}: ${type};`;
  return line.length <= WIDTH ? line : `  ${name}:\n    | ${type.split(" | ").join("\n    | ")};`;
}
const isRecord = (schema) => typeof schema === "object" && schema.type === "record";
/** A union of several records travels wrapped, `{ "namespace.Name": value }`, so that its branch can be told. */
const wrapped = (schema) => `{ "${namespace}.${schema.name}": ${typeOf(schema)} }`;
const arrayOf = (item) => (item.includes(" ") ? `(${item})[]` : `${item}[]`);

const constants = [];
for (const file of readdirSync(new URL("avro/", here))
  .filter((name) => name.endsWith(".avsc"))
  .sort()) {
  const schema = JSON.parse(readFileSync(new URL(`avro/${file}`, here), "utf8"));
  typeOf(schema);
  const name = schema.name[0].toLowerCase() + schema.name.slice(1);
  constants.push(
    `/** schemas/avro/${file} */\nexport const ${name}Schema = ${JSON.stringify(schema, null, 2)} as const;`,
  );
}
const text = `// Made by schemas/generate.mjs from schemas/avro/*.avsc.
// Do not edit: change the .avsc and run \`npm run schemas\`.
/* eslint-disable */
${[...interfaces.values(), ...constants].join("\n\n")}
`;

if (process.argv.includes("--check")) {
  if (readFileSync(out, "utf8") !== text) {
    console.error("schemas/generated.ts is not what schemas/avro says: run `npm run schemas`");
    process.exit(1);
  }
} else {
  writeFileSync(out, text);
}
