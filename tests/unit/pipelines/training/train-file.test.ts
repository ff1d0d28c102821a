import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { compiledModule } from "../../../../infra/package-root.js";
import { loadArtifact } from "../../../../models/artifacts.js";
import { havePublicFiles, publicFile } from "../../../support/public-data.js";
import { fileWith, paysimCsv, temporaryFolder, ulbCsv } from "../../models/datasets/csv-files.js";

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** Runs `npm run train -- ARGS` without npm. */
function train(args: string[], onOutput?: (interrupt: () => void, out: string) => void): Promise<Ended> {
  const child = spawn(process.execPath, [compiledModule("pipelines/training/train-file"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
    onOutput?.(() => child.kill("SIGINT"), out);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out, err }));
  });
}

describe("npm run train", () => {
  test("prints recognised columns, results and the artifact's path; a second run makes the next version", async () => {
    const folder = temporaryFolder();
    const file = fileWith(paysimCsv(4000), "Pay Sim.csv");
    const first = await train([
      file,
      "--out",
      folder,
      "--param",
      "num_iterations=10",
      "--param",
      "max_depth=3",
      "--review-capacity",
      "0.05",
    ]);
    // Only progress, where the machine is busy.
    expect(first.err).toMatch(/^([a-z]+ \d+ %\n)*$/);
    expect(first.code).toBe(0);
    expect(first.out).toContain(`${file}: 4,000 transactions, `);
    expect(first.out).toContain('card_id: column "nameOrig"');
    expect(first.out).toContain('left out: column "isFlaggedFraud", it would tell the label');
    expect(first.out).toMatch(/^test +1,200 +\d+ +[01]\.\d{4} +[01]\.\d{4}$/m);
    expect(first.out).toContain("features from columns, by default: balance_error_orig (newbalanceOrig + amount - ");
    // The capacity is for what people review, beside what is declined.
    const [review, decline] = ["review", "decline"].map((name) =>
      Number(
        new RegExp(`^${name} from 0\\.\\d{4} +validation +\\S+ +\\S+ +(\\d+\\.\\d\\d) %$`, "m").exec(first.out)?.[1],
      ),
    );
    expect(review).toBeGreaterThan(decline);
    expect(review - decline).toBeLessThanOrEqual(5);
    expect(first.out).toContain(`model pay-sim@1: ${join(folder, "pay-sim@1")}`);
    const { manifest } = await loadArtifact(folder, "pay-sim@1");
    expect(manifest.training.params).toMatchObject({ num_iterations: 10, max_depth: 3 });

    const second = await train([
      file,
      "--out",
      folder,
      "--param",
      "num_iterations=2",
      "--name",
      "pay-sim",
      "--algorithm",
      "logistic-regression",
    ]);
    expect(second.code).toBe(0);
    expect((await loadArtifact(folder, "pay-sim@2")).manifest.algorithm).toBe("logistic-regression");
  });

  test.each<[string, (folder: string) => string[], RegExp]>([
    ["a missing file", () => ["/nowhere.csv"], /^\/nowhere\.csv: there is no such file\n$/],
    [
      "a bad cell",
      () => [fileWith("amount,label\n1,0\nx,1\n")],
      /line 3, column "amount": "x" is not a finite number\n$/,
    ],
    ["one class", () => [fileWith("amount,label\n1,0\n2,0\n")], /column "label": the 2 rows hold only genuine/],
    [
      "too few frauds",
      () => [fileWith("amount,label\n1,0\n2,0\n3,0\n4,1\n")],
      /^there are 1 frauds; training, validation and test need one each at least\n$/,
    ],
    [
      "an unknown parameter",
      () => [fileWith(ulbCsv(100)), "--param", "num_leafs=3"],
      /^num_leafs is not a parameter of .*did you mean num_leaf/,
    ],
    ["a name that is none", () => [fileWith(ulbCsv(100)), "--name", "../x"], /^the model's name is "\.\.\/x"/],
    ["a role that is none", () => [fileWith(ulbCsv(100)), "--columns", "colour=red"], /^--columns "colour=red"/],
    [
      "--register elsewhere",
      () => [fileWith(ulbCsv(100)), "--register"],
      /^--register needs the artifact where the roles look/,
    ],
  ])("%s is reported in one line with exit code 1", async (_, args, message) => {
    const folder = temporaryFolder();
    const { code, err } = await train([...args(folder), "--out", folder]);
    expect(err).toMatch(message);
    expect(err.trimEnd()).not.toContain("\n");
    expect(code).toBe(1);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("a wrong option is named; --help lists them all", async () => {
    const wrong = await train(["x.csv", "--review-capacity", "2"]);
    expect([wrong.code, wrong.err.split("\n")[0]]).toEqual([
      1,
      "error: option '--review-capacity <share>' argument '2' is invalid. It must be a share over 0 and up " +
        "to 1, such as 0.005.",
    ]);
    const help = await train(["--help"]);
    expect(help.code).toBe(0);
    for (const option of [
      "--register",
      "--name",
      "--algorithm",
      "--columns",
      "--param",
      "--currency",
      "--features",
      "--train",
      "--test",
      "--review-capacity",
      "--decline-precision",
      "--out",
    ])
      expect(help.out).toContain(option);
  });

  test("Ctrl-C ends it with code 130, quietly, and stores nothing", async () => {
    const folder = temporaryFolder();
    const { code, err } = await train(
      [fileWith(paysimCsv(20_000)), "--out", folder, "--param", "num_iterations=10000"],
      (interrupt, out) => {
        if (out.includes("transactions,")) interrupt();
      },
    );
    expect(code).toBe(130);
    expect(err).not.toMatch(/Error| at /);
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("the public data sets train without preparation", () => {
  test.skipIf(!havePublicFiles("card-transactions.csv.gz", "ulb-creditcard-sample.csv.gz")).each([
    ["card-transactions.csv.gz" as const, /^test +166,714 +1,476 /m, 0.8],
    ["ulb-creditcard-sample.csv.gz" as const, /^test +517 +111 /m, 0.95],
  ])("%s", async (file, line, auc) => {
    const out = temporaryFolder();
    const ended = await train([publicFile(file), "--out", out, "--name", "x", "--param", "num_iterations=30"]);
    expect(ended.code).toBe(0);
    expect(ended.out).toMatch(line);
    expect((await loadArtifact(out, "x@1")).manifest.test?.roc_auc).toBeGreaterThan(auc);
  });
});
