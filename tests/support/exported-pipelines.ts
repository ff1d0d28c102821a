import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { packageRoot } from "../../infra/package-root.js";
import type { UploadedManifest } from "../../models/uploads/upload.js";

/** A cell of rows.csv.gz; null: absent. */
export type Cell = number | string | boolean | null;

/** One pipeline of tests/fixtures/onnx-pipelines, in the parts of an upload. */
export interface ExportedPipeline {
  name: string;
  manifest: UploadedManifest;
  onnx: Buffer;
  samples: { columns: string[]; rows: Cell[][]; scores: number[] };
}

const FOLDER = join(packageRoot(), "tests", "fixtures", "onnx-pipelines");

export function pipelineNames(): string[] {
  return readdirSync(FOLDER)
    .filter((file) => file.endsWith(".onnx.gz"))
    .map((file) => file.slice(0, -".onnx.gz".length))
    .sort();
}

/** @param rows how many of the sample rows */
export function exportedPipeline(name: string, rows = Infinity): ExportedPipeline {
  const unpacked = (file: string): Buffer => gunzipSync(readFileSync(join(FOLDER, file)));
  const manifest = JSON.parse(readFileSync(join(FOLDER, `${name}.manifest.json`), "utf8")) as UploadedManifest;
  const columns = manifest.features.map((feature) => feature.name);
  const [header, ...lines] = unpacked("rows.csv.gz").toString().trimEnd().split(/\r?\n/);
  const places = columns.map((column) => header.split(",").indexOf(column));
  const bytes = unpacked(`${name}.scores.gz`);
  const scores = Array.from({ length: bytes.length / 4 }, (_, row) => bytes.readFloatLE(4 * row));
  return {
    name,
    manifest,
    onnx: unpacked(`${name}.onnx.gz`),
    samples: {
      columns,
      rows: lines.slice(0, rows).map((line) => places.map((place) => cellOf(line.split(",")[place]))),
      scores: scores.slice(0, rows),
    },
  };
}

/** Numbers are float32, as the library got them. */
function cellOf(text: string): Cell {
  if (text === "") return null;
  if (text === "True" || text === "False") return text === "True";
  const number = Number(text);
  return Number.isNaN(number) ? text : Math.fround(number);
}
