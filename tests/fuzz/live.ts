import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { Agent, request as httpRequest } from "node:http";
import { join } from "node:path";
import type { OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { apiDocument } from "../support/api-document.js";
import { eventually } from "../support/eventually.js";
import { nanForRefunds } from "../support/models.js";
import { RandomSource } from "../support/random-source.js";
import type { Engines } from "../endurance/engines.js";
import { SystemUnderLoad } from "../endurance/system.js";
import { CARD_MARK, SECRET_MARK, type Findings } from "./findings.js";
import { fuzzHttp, type FuzzAnswer, type FuzzRequest, type HttpCounts } from "./http.js";
import { FUZZ_SCHEMAS, fuzzRecord } from "./record-source.js";
import { FUZZ_FEATURES } from "./records.js";

const BATCH = 1_000;
const NO_ANSWER_MS = 20_000;

/** Every role, ready for whatever a fuzzer sends. */
export class LiveSystem {
  readonly #under: SystemUnderLoad;
  readonly #logs: string;
  readonly #agent = new Agent({ keepAlive: true });
  #closed = false;

  private constructor(under: SystemUnderLoad, logs: string) {
    this.#under = under;
    this.#logs = logs;
  }

  static async start(engines: Engines, dataDir: string): Promise<LiveSystem> {
    const schemas = join(dataDir, "schemas");
    await mkdir(schemas, { recursive: true });
    for (const [id, schema] of FUZZ_SCHEMAS) await writeFile(join(schemas, `${id}.avsc`), JSON.stringify(schema));
    return new LiveSystem(
      await SystemUnderLoad.start(engines, {
        dataDir,
        champion: nanForRefunds(FUZZ_FEATURES),
        settings: { SCHEMAS_DIR: schemas, LOG_LEVEL: "debug", SIGN_IN_RATE_LIMIT: "1000000" },
      }),
      join(dataDir, "logs"),
    );
  }

  /** Mutated records through Kafka, a worker and the sink: each record of the topic has exactly one outcome. */
  async records(
    seed: number,
    count: number,
    findings: Findings,
    onProgress: (done: number) => void,
    signal: AbortSignal,
  ): Promise<Record<string, number>> {
    const { system, clickhouse } = this.#under;
    let published = 0;
    for (let batch = 0; published < count && !signal.aborted; batch++) {
      const random = new RandomSource(seed * 100_003 + batch);
      const list: OutgoingRecord[] = Array.from({ length: Math.min(BATCH, count - published) }, (_, i) => {
        const { value, card } = fuzzRecord(random, batch * BATCH + i);
        return { key: Buffer.from(card), value };
      });
      await system.publish(list);
      onProgress((published += list.length));
    }
    await system.consumed();
    const coordinates = (partition: number | string, offset: number | string): string => `${partition}/${offset}`;
    const outcomes = new Map(
      (await system.read(system.topics.transactions)).map(({ partition, offset }) => [
        coordinates(partition, offset),
        0,
      ]),
    );
    const happened = (what: string, at: string): void => {
      const times = outcomes.get(at);
      if (times === undefined) findings.add(`${what} of a record that isn't there`, at);
      else outcomes.set(at, times + 1);
    };
    const predictions = await system.predictions();
    for (const { prediction } of predictions)
      happened("a prediction", coordinates(prediction.source_partition, prediction.source_offset));
    const deadLetters = await system.deadLetters();
    for (const { headers } of deadLetters) {
      happened("a dead letter", coordinates(headers["partition"], headers["offset"]));
      if (headers["reason"].includes(CARD_MARK) || headers["reason"].includes(SECRET_MARK))
        findings.add(
          `a reason quotes the record: ${headers["reason"]}`,
          `${headers["partition"]}/${headers["offset"]}`,
        );
    }
    let forwarded = 0;
    for (const { headers } of await system.read(system.topics.transactions)) {
      const [, at] = /[^/]*\/(\d+\/\d+)$/.exec(headers["fraudstream-forwarded-from"] ?? "") ?? [];
      if (at === undefined) continue;
      forwarded += 1;
      happened("a record that was sent on", at);
    }
    for (const [at, times] of outcomes)
      if (times !== 1) findings.add(`it has ${times} outcomes`, `seed ${seed}, record ${at}`);
    const stored = await eventually(
      "the predictions are in ClickHouse",
      async () => {
        const [row] = await clickhouse.query<{ count: number }>("SELECT count() AS count FROM predictions FINAL");
        return Number(row.count) >= predictions.length && Number(row.count);
      },
      120_000,
    );
    if (stored !== predictions.length)
      findings.add(`${stored} predictions in ClickHouse, ${predictions.length} in Kafka`, `seed ${seed}`);
    return { published, predictions: predictions.length, deadLetters: deadLetters.length, forwarded, stored };
  }

  /** Requests of every route, over a real connection, by users of every role. */
  async requests(
    seed: number,
    count: number,
    findings: Findings,
    onProgress: (done: number) => void,
    signal: AbortSignal,
  ): Promise<HttpCounts> {
    const { client, apiPort, roles, secrets } = this.#under;
    const tokens = [client.token];
    for (const role of ["service", "analyst", "operator"]) {
      const body = {
        username: `fuzz-${role}`,
        password: `${SECRET_MARK}-of-${role}`,
        email: `${role}@example.com`,
        role,
      };
      await client.ask(apiPort, "POST", "/api/v1/users", { body });
      const { text } = await client.ask(apiPort, "POST", "/api/v1/tokens", {
        body: { username: body.username, password: body.password },
      });
      tokens.push((JSON.parse(text) as { access_token: string }).access_token);
    }
    const api = roles.find(({ name }) => name === "api");
    return fuzzHttp(
      seed,
      count,
      {
        document: await apiDocument(),
        tokens,
        secrets: [...secrets, ...tokens],
        cpuMs: () => (api?.process.cpuSeconds() ?? 0) * 1_000,
        ask: (request) => this.#ask(request),
      },
      findings,
      onProgress,
      signal,
    );
  }

  /** Looks for what may not stand in any log, and at how the roles end. */
  async close(findings: Findings): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#agent.destroy();
    for (const wrong of await this.#under.stopRoles()) findings.add(wrong, "at the end");
    for (const file of (await readdir(this.#logs)).filter((name) => name.endsWith(".log"))) {
      const text = await readFile(join(this.#logs, file), "utf8");
      for (const mark of [CARD_MARK, SECRET_MARK, ...this.#under.secrets]) {
        const at = text.indexOf(mark);
        if (at >= 0)
          findings.add(
            `the log ${file} holds a card number or a secret`,
            text.slice(Math.max(0, text.lastIndexOf("\n", at)), at + 40).slice(0, 600),
          );
      }
    }
    await this.#under.stop();
  }

  #ask({ method, path, headers, body }: FuzzRequest): Promise<FuzzAnswer | null> {
    const started = performance.now();
    return new Promise((resolve) => {
      const request = httpRequest(
        {
          agent: this.#agent,
          host: "127.0.0.1",
          port: this.#under.apiPort,
          method,
          path,
          headers: { ...headers, ...(body === null ? {} : { "content-length": body.length }) },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk)).on("error", () => resolve(null));
          response.on("end", () =>
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              text: Buffer.concat(chunks).toString(),
              ms: performance.now() - started,
            }),
          );
        },
      );
      request.setTimeout(NO_ANSWER_MS, () => request.destroy(new Error("no answer")));
      request.on("error", () => resolve(null)).end(body ?? undefined);
    });
  }
}
