import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { packageRoot } from "../../infra/package-root.js";
import { readCsv } from "../../models/datasets/read-csv.js";
import { buildModel } from "../../models/build-model.js";
import { checkInProcess } from "../../models/uploads/check-in-process.js";
import { inspectOnnx } from "../../models/uploads/inspect-onnx.js";
import { normaliseOnnx } from "../../models/uploads/normalise-onnx.js";
import { uploadedColumns } from "../../models/uploads/upload.js";
import { samplesOf } from "../../models/uploads/samples.js";
import { FraudstreamError } from "../../schemas/errors.js";
import { RandomSource } from "../support/random-source.js";
import { fixtures } from "../support/uploads.js";
import { told, type Findings } from "./findings.js";
import { ODD_TEXTS, mutated } from "./mutate.js";

/** How many were taken, and why the others were not. */
export interface FileCounts {
  files: number;
  taken: number;
  refused: Record<string, number>;
}

const never = new AbortController().signal;
const TRAINED_OF = 20;

/** What a reader of files may throw: an error of ours with a code. Anything else is a finding. */
function note(error: unknown, counts: FileCounts, findings: Findings, how: string): void {
  if (!(error instanceof FraudstreamError)) return findings.add(told(error), how);
  counts.refused[error.code] = (counts.refused[error.code] ?? 0) + 1;
}

/** Mutated CSV files, read as training reads them; now and then one that was taken is trained on. */
export async function fuzzCsv(
  seed: number,
  count: number,
  samples: readonly string[],
  findings: Findings,
  onProgress: (done: number) => void = () => {},
  signal: AbortSignal = never,
): Promise<FileCounts> {
  const counts: FileCounts = { files: 0, taken: 0, refused: {} };
  const folder = await mkdtemp(join(tmpdir(), "fraudstream-fuzz-"));
  const file = join(folder, "data.csv");
  try {
    for (let n = 0; n < count && !signal.aborted; n++) {
      const random = new RandomSource(seed * 100_003 + n);
      await writeFile(file, oddCsv(random, random.pick(samples)));
      const how = `seed ${seed}, csv ${n}`;
      try {
        const dataset = await findings.timed(
          () => how,
          () => readCsv(file),
        );
        if ((counts.taken += 1) % TRAINED_OF === 0)
          await findings.timed(
            () => `${how}, training`,
            () => buildModel(dataset, { model: "fuzz@1", params: { num_iterations: 3 } }, { signal }),
          );
      } catch (error) {
        note(error, counts, findings, how);
      }
      onProgress((counts.files += 1));
    }
    return counts;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Mutated Parquet files of several writers, read as training reads those of strangers. */
export async function fuzzParquet(
  seed: number,
  count: number,
  findings: Findings,
  onProgress: (done: number) => void = () => {},
  signal: AbortSignal = never,
): Promise<FileCounts> {
  const counts: FileCounts = { files: 0, taken: 0, refused: {} };
  const folder = await mkdtemp(join(tmpdir(), "fraudstream-fuzz-"));
  const file = join(folder, "data.parquet");
  const from = join(packageRoot(), "tests/fixtures/parquet");
  const names = (await readdir(from)).filter((name) => name.endsWith(".parquet")).sort();
  const samples = await Promise.all(names.map((name) => readFile(join(from, name))));
  try {
    for (let n = 0; n < count && !signal.aborted; n++) {
      const random = new RandomSource(seed * 100_003 + n);
      await writeFile(
        file,
        mutated(random.pick(samples), random, () => random.pick(samples)),
      );
      const how = `seed ${seed}, parquet ${n}`;
      try {
        await findings.timed(
          () => how,
          () => readCsv(file, { limits: { bytes: 1e9, rows: 1e6 } }),
        );
        counts.taken += 1;
      } catch (error) {
        note(error, counts, findings, how);
      }
      onProgress((counts.files += 1));
    }
    return counts;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function oddCsv(random: RandomSource, sample: string): Buffer {
  const lines = sample.split("\n");
  const cell = (change: (cell: string) => string): void => {
    const at = random.next() < 0.2 ? 0 : random.int(lines.length);
    const cells = lines[at].split(",");
    const column = random.int(cells.length);
    cells[column] = change(cells[column]);
    lines[at] = cells.join(",");
  };
  for (let times = 1 + random.int(3); times > 0; times--) {
    const kind = random.int(9);
    if (kind < 3) cell(() => random.pick(ODD_TEXTS));
    else if (kind === 3) cell((text) => `"${text}${random.pick(["", "\n", '""', '"', "\r\n"])}`);
    else if (kind === 4) lines.splice(random.int(lines.length), random.int(5));
    else if (kind === 5)
      lines.splice(
        random.int(lines.length),
        0,
        random.pick(["", ",".repeat(random.int(200)), lines[0], "\u0000", "x".repeat(100_000)]),
      );
    else if (kind === 6)
      lines[0] = lines[0]
        .split(",")
        .map((name) => (random.next() < 0.3 ? random.pick([...ODD_TEXTS, "amount", "label", "isFraud", "time"]) : name))
        .join(",");
    else if (kind === 7) cell((text) => text.repeat(random.int(50)));
    else lines.forEach((line, i) => (lines[i] = line.replaceAll(",", random.pick([";", "\t", ",,", ","]))));
  }
  const ending = random.pick(["\n", "\n", "\r\n", "\r"]);
  let bytes: Buffer = Buffer.from(`${random.pick(["", "", "\ufeff"])}${lines.join(ending)}`);
  if (random.next() < 0.3) bytes = mutated(bytes, random, () => bytes);
  if (random.next() < 0.25) {
    bytes = gzipSync(bytes);
    if (random.next() < 0.7) bytes = mutated(bytes, random, () => bytes);
  }
  return bytes;
}

/**
 * Mutated ONNX files. All are looked at and rewritten as an upload is before its process starts; one in `processOf`
 * goes through that process, too, which may die of it.
 */
export async function fuzzOnnx(
  seed: number,
  count: number,
  processOf: number,
  findings: Findings,
  onProgress: (done: number) => void = () => {},
  signal: AbortSignal = never,
): Promise<FileCounts & { processes: number }> {
  const counts = { files: 0, taken: 0, refused: {} as Record<string, number>, processes: 0 };
  const known = fixtures().filter(({ onnx }) => onnx.length < 500_000);
  for (let n = 0; n < count && !signal.aborted; n++) {
    const random = new RandomSource(seed * 100_003 + n);
    const { name, onnx, manifest, samples } = random.pick(known);
    const bytes = n % 50 === 0 ? onnx : mutated(onnx, random, () => random.pick(known).onnx);
    const how = `seed ${seed}, onnx ${n} of ${name}`;
    const look = (): Promise<void> => {
      inspectOnnx(bytes);
      normaliseOnnx(bytes, manifest, uploadedColumns(manifest));
      return Promise.resolve();
    };
    try {
      if (n % processOf === 0) {
        counts.processes += 1;
        const columns = uploadedColumns(manifest);
        await checkInProcess(
          {
            onnx: bytes,
            words: manifest,
            columns,
            samples: samplesOf(samples, columns),
          },
          { timeoutMs: 20_000 },
          signal,
        );
      } else
        await findings.timed(
          () => how,
          async () => look(),
        );
      counts.taken += 1;
    } catch (error) {
      if (signal.aborted) break;
      // The process answers so for what the code that looks at the file throws of itself.
      note(
        error instanceof FraudstreamError ? error : new FraudstreamError("model_failed", told(error)),
        counts,
        findings,
        how,
      );
    }
    onProgress((counts.files += 1));
  }
  return counts;
}
