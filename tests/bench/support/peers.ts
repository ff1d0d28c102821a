import { execFile } from "node:child_process";
import { cp, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { packageRoot } from "../../../infra/package-root.js";
import { featureHash, type FeatureSpec } from "../../../models/features/plan.js";
import { loadArtifact, saveArtifact, sha256, type Artifact } from "../../../models/artifacts.js";
import type { Manifest } from "../../../models/manifest.js";

const MODEL = "peers@1";
const PYTHON_ENVIRONMENTS = ["quix", "bytewax", "faust"] as const;
const run = promisify(execFile);
const JAVA = ["-Xms512m", "-Xmx512m", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"];

/** The peers of tests/bench/peers, copied and built outside the source tree. */
export class Peers {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Copies the peers to `dataDir` and builds the Java ones there. */
  static async prepare(dataDir: string, progress: (line: string) => void): Promise<Peers> {
    const folder = join(dataDir, "peers");
    if ((await stat(join(folder, "java/target/lib")).catch(() => null)) === null) {
      progress("building the Java peers (Maven, about 30 s)");
      await cp(join(packageRoot(), "tests/bench/peers"), folder, { recursive: true });
      await run("mvn", ["-q", "-B", "package"], { cwd: join(folder, "java"), maxBuffer: 1 << 26 });
      await mkdir(join(folder, "tmp"), { recursive: true });
    }
    return new Peers(folder);
  }

  /**
   * Makes the Python environments of the peers, each with its pinned requirements.
   *
   * @returns those that can't be made here, with the reason
   */
  async preparePython(progress: (line: string) => void): Promise<Map<string, string>> {
    const missing = new Map<string, string>();
    for (const name of PYTHON_ENVIRONMENTS) {
      const folder = join(this.folder, `venv-${name}`);
      const installed = join(folder, "installed");
      if ((await stat(installed).catch(() => null)) !== null) continue;
      progress(`installing the Python environment ${name} of the peers`);
      try {
        await run("python3", ["-m", "venv", folder]);
        const requirements = join(this.folder, `python/requirements-${name}.txt`);
        await run(join(folder, "bin/pip"), ["install", "-q", "-r", requirements], { maxBuffer: 1 << 26 });
        await writeFile(installed, "");
      } catch {
        missing.set(`venv-${name}`, "its packages could not be installed");
      }
    }
    return missing;
  }

  /** The command line of one of their Java programs. */
  java(...args: string[]): [command: string, args: string[]] {
    return [
      "java",
      [...JAVA, "-cp", `${this.folder}/java/target/peerbench-1.jar:${this.folder}/java/target/lib/*`, ...args],
    ];
  }

  /** Runs one of their programs to its end. @returns its standard output */
  async runJava(...args: string[]): Promise<string> {
    const [command, list] = this.java(...args);
    return (await run(command, list, { cwd: this.folder, maxBuffer: 1 << 26 })).stdout;
  }

  /** Puts their writer schema where SCHEMAS_DIR finds it. */
  async writeSchemas(folder: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    await cp(join(this.folder, "schema/transaction.avsc"), join(folder, "1.avsc"));
  }

  /** Their model as an artifact of ours, stored when it isn't yet. */
  async artifact(artifactsDir: string, model = MODEL): Promise<Artifact> {
    return loadArtifact(artifactsDir, model).catch(() => this.#saveModel(artifactsDir, model));
  }

  async #saveModel(artifactsDir: string, model: string): Promise<Artifact> {
    const onnx = await readFile(join(this.folder, "model/model.onnx"));
    const features: FeatureSpec[] = [
      { name: "amount", type: "number", source: { kind: "amount" }, default: null },
      ...Array.from({ length: 28 }, (_, i): FeatureSpec => ({
        name: `v${i + 1}`,
        type: "number",
        source: { kind: "attribute", attribute: `v${i + 1}` },
        default: null,
      })),
    ];
    const manifest: Manifest = {
      format: 1,
      model,
      algorithm: "lightgbm",
      input: "features",
      output: "probabilities",
      features,
      feature_hash: featureHash(features),
      sha256: sha256(onnx),
      thresholds: { review: 0.5, decline: 0.9 },
      training: {
        source: "tests/bench/peers/model/train.py",
        rows: 0,
        frauds: 0,
        from: 0,
        to: 0,
        params: {},
        seconds: 0,
      },
      validation: null,
      test: null,
      created_at: new Date().toISOString(),
    };
    return saveArtifact(artifactsDir, manifest, onnx);
  }
}
