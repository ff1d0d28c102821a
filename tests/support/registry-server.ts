import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

interface RegisteredSchema {
  schema: string;
  schemaType?: string;
  references?: { name: string; subject: string; version: number }[];
}

export interface RegistryServer {
  url: string;
  /** What each id stands for; answers are made from it. */
  schemas: Map<number, RegisteredSchema>;
  subjects: Map<string, number[]>;
  requests: string[];
  /** By GUID, as newer registries know schemas. */
  guids: Map<string, number>;
  /** The Authorization header of the last request. */
  authorization: string;
  /** Any other status is answered to every request. */
  status: number;
  /** Statuses that are answered to requests of single ids; 0: no answer at all. */
  statuses: Map<number, number>;
  /** Any other status is answered where a schema is to be registered. */
  registerStatus: number;
  /** Requests are not answered at all. */
  hangs: boolean;
  /** Stops answering; its port is free then. */
  close(): Promise<void>;
}

/** A schema registry of the test's own, with the routes of Confluent's that its client uses. */
export async function registryServer(): Promise<RegistryServer> {
  const schemas: RegistryServer["schemas"] = new Map();
  const subjects: RegistryServer["subjects"] = new Map();
  const requests: string[] = [];
  const guids: RegistryServer["guids"] = new Map();
  const statuses: RegistryServer["statuses"] = new Map();
  const state = { status: 200, registerStatus: 200, hangs: false, authorization: "" };

  const idOf = (subject: string, version: string): number | undefined =>
    version === "latest" ? subjects.get(subject)?.at(-1) : subjects.get(subject)?.[Number(version) - 1];
  const register = (subject: string, body: string): object => {
    const { schema } = JSON.parse(body) as { schema: string };
    const known = [...schemas].find(([, registered]) => registered.schema === schema)?.[0];
    const id = known ?? Math.max(100, ...schemas.keys()) + 1;
    schemas.set(id, { schema });
    subjects.set(subject, [...(subjects.get(subject) ?? []).filter((other) => other !== id), id]);
    return { id };
  };
  const lookup = (subject: string, body: string): object | null => {
    const { schema } = JSON.parse(body) as { schema: string };
    const id = subjects.get(subject)?.find((known) => schemas.get(known)?.schema === schema);
    return id === undefined ? null : { subject, id, version: 1, schema };
  };
  const answer = (path: string, body: string): object | null => {
    const [, kind, ...rest] = decodeURIComponent(path.split("?")[0]).split("/") as (string | undefined)[];
    if (kind === "schemas")
      return schemas.get(rest[0] === "guids" ? (guids.get(rest[1] ?? "") ?? -1) : Number(rest[1])) ?? null;
    if (kind === "config") return body === "" ? null : { compatibility: "BACKWARD" };
    if (kind !== "subjects") return null;
    const [subject, versions, version] = rest;
    if (subject === undefined) return [...subjects.keys()];
    if (versions === undefined) return lookup(subject, body);
    if (version === undefined) return register(subject, body);
    const id = idOf(subject, version);
    return id === undefined
      ? null
      : {
          subject,
          id,
          version: version === "latest" ? (subjects.get(subject)?.length ?? 0) : Number(version),
          ...schemas.get(id),
        };
  };
  const server = createServer((request, response) => {
    void read(request).then((body) => {
      requests.push(`${request.method} ${request.url}`);
      state.authorization = request.headers.authorization ?? "";
      if (state.hangs) return;
      const registers = request.method === "POST" && request.url?.endsWith("/versions") === true;
      const single = statuses.get(Number(/^\/schemas\/ids\/(\d+)/.exec(request.url ?? "")?.[1]));
      if (single === 0) return;
      const status = single ?? (state.status !== 200 ? state.status : registers ? state.registerStatus : 200);
      const content = status === 200 ? answer(request.url ?? "", body) : null;
      response.writeHead(status !== 200 ? status : content === null ? 404 : 200, {
        "content-type": "application/vnd.schemaregistry.v1+json",
        connection: "close",
      });
      response.end(JSON.stringify(content ?? { error_code: 40403, message: "not found" }));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = async (): Promise<void> => {
    if (!server.listening) return;
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  };
  onTestFinished(close);
  return Object.assign(state, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    schemas,
    guids,
    subjects,
    statuses,
    requests,
    close,
  });
}

async function read(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}
