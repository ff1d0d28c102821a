/**
 * POST /api/v1/predictions against the roles that `npm start` runs, over connections that are kept alive: one
 * transaction at a time, 64 requests in flight, and lists of 100. Every answer must be a score of the transaction that
 * was asked about.
 *
 *   npm run bench -- http
 */
import { loadavg } from "node:os";
import type { BenchContext } from "./support/context.js";
import { ControlPlane, quantile, type HttpAnswer } from "./support/control-plane.js";

interface Shape {
  what: string;
  inFlight: number;
  list: number;
  warm: number;
  requests: number;
}

/** Warm-up and measured requests of each shape. */
const SHAPES: readonly Shape[] = [
  { what: "one at a time", inFlight: 1, list: 1, warm: 200, requests: 1_000 },
  { what: "64 in flight", inFlight: 64, list: 1, warm: 2_000, requests: 10_000 },
  { what: "lists of 100, 8 in flight", inFlight: 8, list: 100, warm: 200, requests: 1_000 },
];
const ATTRIBUTES = Object.fromEntries(Array.from({ length: 28 }, (_, i) => [`v${i + 1}`, Math.sin(i)]));

interface Answered {
  transaction_id: string;
  score: number;
  decision: string;
}

export async function benchHttp(context: BenchContext): Promise<void> {
  const { print, options } = context;
  const plane = await ControlPlane.start(context, "http", ["peers@1"]);
  try {
    for (let run = 1; run <= options.runs; run++) for (const shape of SHAPES) print(await measure(plane, shape));
  } finally {
    await plane.stop();
  }
}

async function measure(plane: ControlPlane, { what, inFlight, list, warm, requests }: Shape): Promise<string> {
  await askAll(plane, warm, inFlight, list, null);
  const took = new Float64Array(requests);
  const roles = Object.entries(plane.processes);
  const before = roles.map(([, process]) => process.cpuSeconds());
  const clientBefore = process.cpuUsage();
  const started = performance.now();
  await askAll(plane, requests, inFlight, list, took);
  const seconds = (performance.now() - started) / 1000;
  const perTransaction = (cpuSeconds: number): string => ((cpuSeconds * 1_000) / (requests * list)).toFixed(3);
  const { user, system } = process.cpuUsage(clientBefore);
  const cpu = [
    ...roles.map(([name, role], i) => `${name} ${perTransaction(role.cpuSeconds() - before[i])}`),
    `client ${perTransaction((user + system) / 1e6)}`,
  ];
  took.sort();
  const at = (share: number): string => quantile(took, share).toFixed(1);
  return (
    `http, ${what}: p50 ${at(0.5)} ms, p95 ${at(0.95)}, p99 ${at(0.99)}, max ${at(1)}; ` +
    `${Math.round(requests / seconds).toLocaleString("en")} requests, ` +
    `${Math.round((requests * list) / seconds).toLocaleString("en")} transactions a second, all ${requests} ` +
    `answers checked; CPU ms a transaction: ${cpu.join(", ")}; load ${loadavg()[0].toFixed(1)}`
  );
}

let asked = 0;

/** Asks `requests` times, `inFlight` at once. */
async function askAll(
  plane: ControlPlane,
  requests: number,
  inFlight: number,
  list: number,
  took: Float64Array | null,
): Promise<void> {
  let next = 0;
  const client = async (): Promise<void> => {
    for (let i = next++; i < requests; i = next++) {
      const transactions = Array.from({ length: list }, () => payment((asked += 1)));
      const body = list === 1 ? transactions[0] : transactions;
      const started = performance.now();
      const answer = await plane.ask("POST", "/api/v1/predictions?wait_ms=30000", body);
      if (took !== null) took[i] = performance.now() - started;
      check(answer, transactions);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, client));
}

function payment(n: number): { transaction_id: string } & Record<string, unknown> {
  return {
    transaction_id: `h${n}`,
    event_time: Date.now(),
    card_id: `card_${(n * 7919) % 50_000}`,
    merchant_id: `m_${n % 5_000}`,
    amount: (n % 1_000) / 10,
    currency: "EUR",
    attributes: ATTRIBUTES,
  };
}

function check({ status, body }: HttpAnswer, transactions: readonly { transaction_id: string }[]): void {
  const found =
    transactions.length === 1
      ? [body as Answered]
      : (body as { prediction?: Answered }[]).map(({ prediction }) => prediction);
  const right =
    status === 200 &&
    transactions.every(({ transaction_id }, i) => {
      const answered = found[i];
      return (
        answered?.transaction_id === transaction_id &&
        answered.score >= 0 &&
        answered.score <= 1 &&
        answered.decision !== ""
      );
    });
  if (!right)
    throw new Error(
      `not an answer to ${transactions[0].transaction_id}: ${status} ${JSON.stringify(body).slice(0, 500)}`,
    );
}
