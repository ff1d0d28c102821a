import { appendFileSync, existsSync, readFileSync } from "node:fs";
import type { RunResult } from "./run.js";

/** Seeds that stand in a file of results already, whatever their verdict. */
export function seedsIn(file: string): Set<number> {
  if (!existsSync(file)) return new Set();
  const lines = readFileSync(file, "utf8").split("\n").filter((line) => line !== "");
  return new Set(lines.map((line) => (JSON.parse(line) as { seed: number }).seed));
}

export function addResult(file: string, result: RunResult): void {
  appendFileSync(file, `${JSON.stringify({ at: new Date().toISOString(), ...result })}\n`);
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
