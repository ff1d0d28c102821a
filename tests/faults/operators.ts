import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { ADMIN_PASSWORD } from "./system.js";

/** What an answer has promised: these must be found afterwards. */
export interface Acknowledged {
  /** Epochs of deployments that were decided, in the order of the answers. */
  deployments: number[];
  jobs: string[];
  cancelled: string[];
  /** Of dead letters, `partition/offset`. */
  replayed: string[];
  /** Ids of transactions that the API has taken. */
  transactions: string[];
  labels: { transaction_id: string; card_id: string; is_fraud: boolean }[];
  /** What a transaction's label must be in the end, by `card id`: nobody has said anything else since. */
  finally: Map<string, boolean>;
  /** Deployments that were asked for without such an answer: each may have been decided or not. */
  openDeployments: number;
}

interface Answer {
  status: number;
  body: Record<string, unknown>;
}

const CALL_MS = 20_000;
/** How long a copy is looked for that takes connections. */
const CONNECT_MS = 15_000;

/** Operators and services at the API: whatever was answered is noted, whatever was not may have happened or not. */
export class Operators {
  readonly acknowledged: Acknowledged = {
    deployments: [],
    jobs: [],
    cancelled: [],
    replayed: [],
    transactions: [],
    labels: [],
    finally: new Map(),
    openDeployments: 0,
  };
  /** Calls without an answer, and answers other than 2xx, by what was asked. */
  readonly unanswered = new Map<string, number>();
  readonly refused = new Map<string, number>();
  readonly #ports: readonly number[];
  #token: string | null = null;
  #turn = 0;
  #sent = 0;
  readonly #corrected = new Set<string>();
  #dataset: { server: Server; link: string } | null = null;

  constructor(ports: readonly number[]) {
    this.#ports = ports;
  }

  /** A call to the next copy that takes connections. @returns null: no answer came */
  async call(method: string, path: string, body?: object): Promise<Answer | null> {
    for (const deadline = Date.now() + CONNECT_MS; ;) {
      const answer = await this.#callCopy(method, path, body, this.#turn++);
      if (answer !== "refused") return answer;
      if (Date.now() > deadline) return null;
      await sleep(500);
    }
  }

  async #callCopy(
    method: string,
    path: string,
    body: object | undefined,
    copy: number,
  ): Promise<Answer | "refused" | null> {
    const origin = `http://127.0.0.1:${this.#ports[copy % this.#ports.length]}`;
    const what = `${method} /${path.split(/[/?]/)[1]}`;
    try {
      this.#token ??= await signIn(origin);
      const response = await fetch(`${origin}/api/v1${path}`, {
        method,
        signal: AbortSignal.timeout(CALL_MS),
        headers: {
          authorization: `Bearer ${this.#token}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const answer = { status: response.status, body: (await response.json()) as Record<string, unknown> };
      if (response.status >= 300) {
        const kind = `${what}: ${response.status} ${String(answer.body["code"])}`;
        this.refused.set(kind, (this.refused.get(kind) ?? 0) + 1);
      }
      return answer;
    } catch (error) {
      const { name, cause } = error as Error & { cause?: { code?: string } };
      const kind = `${what}: ${cause?.code ?? name}`;
      this.unanswered.set(kind, (this.unanswered.get(kind) ?? 0) + 1);
      return cause?.code === "ECONNREFUSED" ? "refused" : null;
    }
  }

  async deploy(model: string, { enabled, role }: { enabled: boolean; role: "champion" | "shadow" }): Promise<string> {
    const answer = await this.call("PUT", `/models/${encodeURIComponent(model)}/enabled?wait_ms=3000`, {
      enabled,
      role,
    });
    if (answer === null || answer.status >= 300) this.acknowledged.openDeployments += 1;
    else if (answer.body["changed"] === true) this.acknowledged.deployments.push(Number(answer.body["epoch"]));
    return answer === null
      ? "no answer"
      : `${answer.status} epoch ${String(answer.body["epoch"] ?? answer.body["code"])}`;
  }

  async train(seed: number): Promise<string> {
    this.#dataset ??= await dataset();
    const answer = await this.call("POST", "/training-jobs", {
      dataset: this.#dataset.link,
      algorithm: "gradient-boosted-trees",
      params: { num_iterations: 5, max_depth: 3 },
      seed,
      name: "trained",
    });
    if (answer?.status === 202) this.acknowledged.jobs.push(String(answer.body["id"]));
    return answer === null ? "no answer" : `${answer.status} ${String(answer.body["id"])}`;
  }

  /** Cancels the job that was asked for last. */
  async cancel(): Promise<string> {
    const id = this.acknowledged.jobs.at(-1);
    if (id === undefined) return "no job";
    const answer = await this.call("DELETE", `/training-jobs/${id}`);
    if (answer !== null && answer.status < 300) this.acknowledged.cancelled.push(id);
    return answer === null ? "no answer" : String(answer.status);
  }

  async replay(code: string): Promise<string> {
    const answer = await this.call("POST", "/dead-letters/replay", { code });
    if (answer?.status !== 200)
      return answer === null ? "no answer" : `${answer.status} ${String(answer.body["code"])}`;
    const replayed = answer.body["replayed"] as { partition: number; offset: number }[];
    this.acknowledged.replayed.push(...replayed.map(({ partition, offset }) => `${partition}/${offset}`));
    return `${replayed.length} sent again`;
  }

  /** A payment that asks for its score, and now and then is labelled. */
  async predict(eventTime: number, card: string): Promise<void> {
    const id = `api-${this.#sent++}`;
    const answer = await this.call("POST", "/predictions?wait_ms=2000", {
      transaction_id: id,
      event_time: new Date(eventTime).toISOString(),
      card_id: card,
      merchant_id: "shop-api",
      amount: 12.5,
      currency: "EUR",
    });
    if (answer === null || answer.status > 202) return;
    this.acknowledged.transactions.push(id);
    if (this.#sent % 3 !== 0) return;
    const label = { transaction_id: id, card_id: card, is_fraud: false };
    if ((await this.call("POST", "/labels", label))?.status === 202) this.acknowledged.labels.push(label);
  }

  /**
   * Says over HTTP what became of a transaction.
   *
   * @param last asked when it was taken: what its label must be in the end; null: that can't be told
   */
  async correct(
    label: { transaction_id: string; card_id: string; is_fraud: boolean },
    last: () => boolean | null,
  ): Promise<void> {
    this.#corrected.add(keyOf(label));
    if ((await this.call("POST", "/labels", label))?.status !== 202) return;
    this.acknowledged.labels.push(label);
    const verdict = last();
    if (verdict !== null) this.acknowledged.finally.set(keyOf(label), verdict);
  }

  /** Whether that was tried. */
  isCorrected(label: { transaction_id: string; card_id: string }): boolean {
    return this.#corrected.has(keyOf(label));
  }

  close(): void {
    this.#dataset?.server.close();
  }
}

function keyOf({ card_id, transaction_id }: { transaction_id: string; card_id: string }): string {
  return `${card_id} ${transaction_id}`;
}

async function signIn(origin: string): Promise<string> {
  const response = await fetch(`${origin}/api/v1/tokens`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username: "admin", password: ADMIN_PASSWORD }),
    signal: AbortSignal.timeout(CALL_MS),
  });
  if (!response.ok) throw new Error(`signing in: ${response.status}`);
  return ((await response.json()) as { access_token: string }).access_token;
}

/** A small CSV to train on, over HTTP. */
async function dataset(): Promise<{ server: Server; link: string }> {
  const lines = [
    "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud," +
      "isFlaggedFraud",
  ];
  for (let row = 0; row < 2_000; row++) {
    const fraud = row % 20 === 7;
    const amount = (row * 37) % 1_000;
    lines.push(
      [
        1 + Math.floor((row * 24) / 2_000),
        fraud ? "TRANSFER" : "PAYMENT",
        amount,
        `C${row % 97}`,
        amount * 2,
        fraud ? 0 : amount,
        `M${row % 31}`,
        0,
        amount,
        Number(fraud),
        0,
      ].join(","),
    );
  }
  const server = createServer((_, response) => response.end(`${lines.join("\n")}\n`)).listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, link: `http://127.0.0.1:${(server.address() as AddressInfo).port}/payments.csv` };
}
