import { onTestFinished } from "vitest";
import type { LightMyRequestResponse } from "fastify";
import type { Role } from "../../api/users/roles.js";
import { startTestApi, type TestApi } from "./api.js";
import { kafkaConfig, uniquePrefix } from "./engines.js";
import type { ExportedPipeline } from "./exported-pipelines.js";
import type { Fixture } from "./uploads.js";
import { TestSystem } from "./workers-system.js";

/** Topics, scoring workers and one copy of the API, all under one prefix. */
export interface ModelsApi {
  system: TestSystem;
  api: TestApi;
}

export async function openModelsApi({
  settings = {},
  migrated = false,
}: { settings?: Record<string, string>; migrated?: boolean } = {}): Promise<ModelsApi> {
  const system = await TestSystem.open({ kafka: kafkaConfig(), prefix: uniquePrefix() });
  onTestFinished(() => system.close());
  return { system, api: await anotherApi(system, settings, migrated) };
}

/** One more copy of the API of a system. */
export function anotherApi(
  system: TestSystem,
  settings: Record<string, string> = {},
  migrated = false,
): Promise<TestApi> {
  return startTestApi({
    prefix: system.prefix,
    migrated,
    settings: { ...settings, ARTIFACTS: system.artifacts, TOPIC_PARTITIONS: String(system.partitions) },
  });
}

export interface Answer<T = Record<string, unknown>> {
  status: number;
  body: T;
  headers: LightMyRequestResponse["headers"];
}

export async function get<T = Record<string, unknown>>(
  api: TestApi,
  path: string,
  role: Role | null = "analyst",
): Promise<Answer<T>> {
  return answer<T>(await api.inject(role, { method: "GET", url: `/api/v1${path}` }));
}

/** What a call that deploys answers. */
export interface DeployedAnswer {
  model: string;
  changed: boolean;
  epoch: number;
  live: boolean;
  missing_partitions: number[];
  problems: { worker: string; problem: string }[];
  attributes?: object | null;
  warnings?: string[];
  code: string;
}

export async function put(
  api: TestApi,
  path: string,
  body: object,
  { role = "operator", headers = {} }: { role?: Role; headers?: Record<string, string> } = {},
): Promise<Answer<DeployedAnswer>> {
  return answer<DeployedAnswer>(
    await api.inject(role, { method: "PUT", url: `/api/v1${path}`, payload: body, headers }),
  );
}

/** The parts of an upload, as they go over the wire; undefined: left out. */
export interface Parts {
  manifest?: string | undefined;
  model?: Uint8Array | undefined;
  samples?: string | undefined;
  [other: string]: string | Uint8Array | undefined;
}

export function partsOf({ manifest, onnx, samples }: Fixture | ExportedPipeline): Parts {
  return { manifest: JSON.stringify(manifest), model: onnx, samples: JSON.stringify(samples) };
}

const BOUNDARY = "a-boundary-of-the-tests";

/** A multipart body, as curl -F writes it. */
export function multipartOf(parts: Parts): { payload: Buffer; headers: Record<string, string> } {
  const chunks: Buffer[] = [];
  for (const [name, value] of Object.entries(parts)) {
    if (value === undefined) continue;
    chunks.push(
      Buffer.from(
        `--${BOUNDARY}\r\ncontent-disposition: form-data; name="${name}"; ` +
          `filename="../../${name}"\r\ncontent-type: application/octet-stream\r\n\r\n`,
      ),
      Buffer.from(value),
      Buffer.from("\r\n"),
    );
  }
  chunks.push(Buffer.from(`--${BOUNDARY}--\r\n`));
  return { payload: Buffer.concat(chunks), headers: { "content-type": `multipart/form-data; boundary=${BOUNDARY}` } };
}

/** What an upload answers. */
export interface UploadAnswer {
  id: string;
  code: string;
  detail: string;
  errors?: { field: string }[];
  manifest: { output: string; sha256: string };
  check: { rows: number; greatest_difference: number };
}

export async function upload(api: TestApi, parts: Parts, role: Role = "operator"): Promise<Answer<UploadAnswer>> {
  return answer<UploadAnswer>(await api.inject(role, { method: "POST", url: "/api/v1/models", ...multipartOf(parts) }));
}

function answer<T>(response: LightMyRequestResponse): Answer<T> {
  return { status: response.statusCode, body: response.json<T>(), headers: response.headers };
}
