import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Config } from "../../../infra/config/config.js";
import type { Lifecycle } from "../../../infra/lifecycle/lifecycle.js";
import { freePorts } from "../../../infra/local/ports.js";
import { ensureSecrets } from "../../../infra/local/secrets.js";
import type { LocalStack } from "../../../infra/local/stack.js";
import { startRole } from "./roles.js";
import type { Credentials } from "./training-desk.js";

/**
 * Where the API is, what a first user must know of it, and the first admin; null: an identity provider knows the users.
 */
export interface RunningApi {
  url: string;
  hints: string[];
  admin: Credentials | null;
}

const UP_WITHIN_MS = 60_000;
const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);

/**
 * Starts the API on the first free port from PORT on, with secrets of its own where none are set, and registration open
 * on loopback unless a setting closes it.
 */
export async function startApi(config: Config, stack: LocalStack, lifecycle: Lifecycle): Promise<RunningApi> {
  const { auth } = config;
  const secrets = ensureSecrets(config.dataDir);
  const port = await freePorts(config.port, 1);
  const ownTokens = auth.jwtSecret === null && auth.jwksUrl === null;
  const ownAdmin = auth.jwksUrl === null && auth.adminPassword === null;
  await startRole("api", config, stack, lifecycle, {
    PORT: String(port),
    ...(ownTokens ? { JWT_SECRET_FILE: secrets.jwtSecretFile } : {}),
    ...(ownTokens && auth.registration === null && LOOPBACK.has(config.host) ? { REGISTRATION: "open" } : {}),
    ...(ownAdmin ? { ADMIN_PASSWORD_FILE: secrets.adminPasswordFile } : {}),
  });
  const host = config.host === "0.0.0.0" || config.host === "::" ? "127.0.0.1" : config.host;
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
  await untilItAnswers(`${url}/health/live`, lifecycle.signal);
  const hints = [`API on ${url}, its pages on ${url}/doc`];
  const username = auth.adminUsername ?? "admin";
  if (ownAdmin) hints.push(`sign in as ${username} with the password in ${secrets.adminPasswordFile}`);
  const password = auth.adminPassword ?? readFileSync(secrets.adminPasswordFile, "utf8").trimEnd();
  return { url, hints, admin: auth.jwksUrl === null ? { username, password } : null };
}

async function untilItAnswers(url: string, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + UP_WITHIN_MS;
  for (;;) {
    const answered = await fetch(url, { signal }).then(
      (response) => response.ok,
      () => false,
    );
    if (answered) return;
    signal.throwIfAborted();
    if (Date.now() > deadline) throw new Error(`the API does not answer on ${url}`);
    await sleep(100, undefined, { signal });
  }
}
