import { connect, isIP, type Socket } from "node:net";
import { get as getHttp } from "node:http";
import { get as getHttps } from "node:https";
import { connect as connectTls } from "node:tls";
import type { ClickHouseConfig, KafkaConfig } from "../config/config.js";

export interface Address {
  host: string;
  port: number;
}

/** ApiVersions, version 0: the question that every broker answers to everybody, before it asks who that is. */
const CORRELATION = 0x66726175;
const API_VERSIONS = (() => {
  const clientId = Buffer.from("fraudstream");
  const request = Buffer.alloc(4 + 2 + 2 + 4 + 2 + clientId.length);
  request.writeInt32BE(request.length - 4, 0);
  request.writeInt16BE(18, 4);
  request.writeInt16BE(0, 6);
  request.writeInt32BE(CORRELATION, 8);
  request.writeInt16BE(clientId.length, 12);
  clientId.copy(request, 14);
  return request;
})();
/** Length and correlation id of the answer. */
const HEAD_BYTES = 8;
/** A TLS server answers anything else with an alert: this byte, and the version. */
const TLS_ALERT = 0x15;

/** Why no Kafka broker can be reached there; null: one answers, or it will say itself what it does not take. */
export function probeBroker(
  { host, port }: Address,
  ssl: KafkaConfig["ssl"],
  withinMs: number,
): Promise<string | null> {
  return new Promise((resolve) => {
    let connected = false;
    const ask = (): void => {
      connected = true;
      socket.write(API_VERSIONS);
    };
    const socket: Socket =
      ssl === false
        ? connect({ host, port }, ask)
        : connectTls(
            { host, port, ...(isIP(host) === 0 ? { servername: host } : {}), ...(ssl === true ? {} : ssl) },
            ask,
          );
    const end = (why: string | null): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(why);
    };
    const timer = setTimeout(() => end(`no answer within ${withinMs / 1_000} s`), withinMs);
    let answer = Buffer.alloc(0);
    socket.on("data", (bytes: Buffer) => {
      answer = Buffer.concat([answer, bytes]);
      const why =
        answer.length >= HEAD_BYTES && answer.readInt32BE(4) === CORRELATION
          ? null
          : otherProtocol(answer, ssl !== false);
      if (why !== null || answer.length >= HEAD_BYTES) end(why);
    });
    socket.on("error", (error: NodeJS.ErrnoException) => end(connectionFault(error, ssl !== false)));
    socket.on("close", () =>
      end(
        connected
          ? "it closes the connection; it " +
              `${ssl === false ? "may expect TLS: then set KAFKA_SSL=true, or " : ""}may be no Kafka broker`
          : "it closes the connection",
      ),
    );
  });
}

/** What an answer is that no broker gives; null: too little has come to tell. */
function otherProtocol(answer: Buffer, tls: boolean): string | null {
  if (!tls && answer[0] === TLS_ALERT)
    return "it expects TLS: set KAFKA_SSL=true, and KAFKA_TLS_CA where its authority is not a public one";
  if (answer.length < HEAD_BYTES) return null;
  const http = answer.toString("latin1").startsWith("HTTP/");
  return http ? "it answers in HTTP: that is no Kafka broker" : "it does not answer as a Kafka broker does";
}

/**
 * Why a connection to a broker failed; null for a certificate that is not trusted: the client says that better
 * (refusals.ts).
 */
function connectionFault(error: NodeJS.ErrnoException, tls: boolean): string | null {
  const { code = "" } = error;
  if (tls && isCertificateFault(code)) return null;
  if (tls && /_ALERT_.*CERTIFICATE|HANDSHAKE_FAILURE/.test(code))
    return "it asks this side for a certificate, or does not take it: set KAFKA_TLS_CERT and KAFKA_TLS_KEY";
  if (tls && isTlsFault(error)) return "it does not answer in TLS: is KAFKA_SSL (or KAFKA_TLS_CA) right for this port?";
  return faultText(error);
}

/** Why no ClickHouse answers there; null: it does. */
export function probeClickHouse(
  { url, tlsCa }: Pick<ClickHouseConfig, "url" | "tlsCa">,
  withinMs: number,
): Promise<string | null> {
  return new Promise((resolve) => {
    const target = new URL(`${url}/ping`);
    const tls = target.protocol === "https:";
    const options = { headers: { connection: "close" }, ...(tlsCa === undefined ? {} : { ca: tlsCa }) };
    const end = (why: string | null): void => {
      clearTimeout(timer);
      request.destroy();
      resolve(why);
    };
    const request = (tls ? getHttps : getHttp)(target, options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
        if (text.length > 1_000) response.destroy();
      });
      response.on("close", () => end(pingFault(response.statusCode ?? 0, text)));
    });
    const timer = setTimeout(() => end(`no answer within ${withinMs / 1_000} s`), withinMs);
    request.on("error", (error: NodeJS.ErrnoException) => end(httpFault(error, tls)));
  });
}

function pingFault(status: number, text: string): string | null {
  if (status === 200 && /^Ok\.\s*$/.test(text)) return null;
  if (/port 9000 is for clickhouse-client/i.test(text))
    return "that is the port of clickhouse-client: name the one for HTTP, usually 8123 (8443 with TLS)";
  return `it answers with HTTP status ${status}, not as ClickHouse does`;
}

function httpFault(error: NodeJS.ErrnoException, tls: boolean): string {
  const { code = "" } = error;
  if (tls && isCertificateFault(code))
    return `its certificate is not trusted (${error.message}): is CLICKHOUSE_TLS_CA the authority that signed it?`;
  if (tls && isTlsFault(error)) return "it does not answer in TLS: write http:// for a port without it";
  if (code.startsWith("HPE_"))
    return (
      "it does not answer in HTTP: write https:// where it expects TLS, and name ClickHouse's port for HTTP, " +
      "usually 8123 (8443 with TLS)"
    );
  if (code === "ECONNRESET")
    return (
      "it closes the connection; it may be no ClickHouse, or its port for another protocol (for HTTP it is " +
      "usually 8123, with TLS 8443)"
    );
  return faultText(error);
}

/** What Node says of a certificate (tls, OpenSSL's X509_V_ERR_…). */
function isCertificateFault(code: string): boolean {
  return /^(UNABLE_TO_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH|ERR_TLS_CERT_)/.test(
    code,
  );
}

/** A server without TLS answers a hello in its own protocol, or hangs up. */
function isTlsFault({ code = "" }: NodeJS.ErrnoException): boolean {
  return code.startsWith("ERR_SSL_") || code === "EPROTO" || code === "ECONNRESET";
}

const FAULTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens on that port",
  ENOTFOUND: "no such host is known",
  EAI_AGAIN: "the host's name could not be looked up",
  EHOSTUNREACH: "no way leads to that host",
  ENETUNREACH: "no way leads to that network",
  ETIMEDOUT: "no answer",
  ECONNRESET: "it closes the connection",
};

function faultText({ code = "", message }: NodeJS.ErrnoException): string {
  const text = FAULTS[code];
  return text === undefined ? code || message : `${code}: ${text}`;
}
