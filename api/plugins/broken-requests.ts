import { randomUUID } from "node:crypto";
import type { Socket } from "node:net";
import { STATUS_CODES } from "node:http";
import { HttpProblem, problemBody } from "./errors.js";

/**
 * Requests that never became one: too slow, too long a head, not HTTP. Answered on the bare socket, which is then
 * closed.
 */
export function onBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  // The peer has gone, or an answer is under way already.
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const problem = problemOf(error.code ?? "");
  const body = JSON.stringify(problemBody(problem, randomUUID()));
  const head = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    "content-type: application/problem+json",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
    "x-content-type-options: nosniff",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`, () => socket.destroy());
}

function problemOf(code: string): HttpProblem {
  if (code === "ERR_HTTP_REQUEST_TIMEOUT")
    return new HttpProblem("request_timeout", "the request took too long to arrive");
  if (code === "HPE_HEADER_OVERFLOW") return new HttpProblem("headers_too_large", "the request's headers are too long");
  return new HttpProblem("bad_request", "this is not an HTTP request");
}
