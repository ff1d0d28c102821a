import { execFileSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { packageRoot } from "../../infra/package-root.js";
import type { RunResult } from "./run.js";

/** Seeds that have held, by a file of results. */
export function seedsIn(file: string): Set<number> {
  if (!existsSync(file)) return new Set();
  const lines = readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "");
  const results = lines.map((line) => JSON.parse(line) as { seed: number; verdict: string });
  return new Set(results.filter(({ verdict }) => verdict === "held").map(({ seed }) => seed));
}

/** Adds a line, with the commit that was run; one with changes of its own ends in `+`. */
export function addResult(file: string, result: RunResult): void {
  appendFileSync(
    file,
    `${JSON.stringify({ at: new Date().toISOString(), ...result, commit: commitOf(packageRoot()) })}\n`,
  );
}

/** @returns null outside a repository */
function commitOf(folder: string): string | null {
  const git = (...args: string[]): string =>
    execFileSync("git", ["-C", folder, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    return (
      git("rev-parse", "--short", "HEAD") + (git("status", "--porcelain", "--untracked-files=no") === "" ? "" : "+")
    );
  } catch {
    return null;
  }
}

/** `7`, `1-20` or `1,4,9-12`. @returns null where it is something else */
export function seedsOf(text: string): number[] | null {
  const seeds: number[] = [];
  for (const part of text.split(",")) {
    const [, from, to] = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part.trim()) ?? [];
    if (from === undefined || Number(to ?? from) - Number(from) > 10_000) return null;
    for (let seed = Number(from); seed <= Number(to ?? from); seed++) seeds.push(seed);
  }
  return seeds;
}
