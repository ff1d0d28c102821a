import { STATUS_CODES } from "node:http";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { FraudstreamError, UsageError } from "../../schemas/errors.js";
import { badFields, type BadField } from "./bad-fields.js";

export interface ProblemOptions {
  title?: string;
  /** The fields that were wrong, each by its name. */
  errors?: readonly BadField[];
  headers?: Readonly<Record<string, string>>;
  /** Of a 5xx: its detail is for the caller, who can do something about it. @default false */
  told?: boolean;
  cause?: unknown;
}

/** An answer that isn't a success: thrown by a route or a hook, sent as `application/problem+json`. */
export class HttpProblem extends Error {
  readonly status: number;
  /** Stable, for programs. */
  readonly code: string;
  readonly title: string;
  /** For people; kept to the log when the status is 500 or above, unless it is `told`. */
  readonly detail: string;
  readonly errors: readonly BadField[] | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly told: boolean;

  constructor(status: number, code: string, detail: string, { title, errors, headers = {}, told = false, cause }: ProblemOptions = {}) {
    super(detail, cause === undefined ? undefined : { cause });
    this.name = "HttpProblem";
    this.status = status;
    this.code = code;
    this.title = title ?? STATUS_CODES[status] ?? "Error";
    this.detail = detail;
    this.errors = errors;
    this.headers = headers;
    this.told = told;
  }
}

/** The status of an error that other parts of the system throw, by its code. What isn't here is our mistake: 500. */
const STATUS_BY_CODE: Readonly<Record<string, number>> = {
  conflict: 409,
  username_taken: 409,
  last_admin: 409,
  unknown_model: 404,
  unknown_user: 404,
  unknown_job: 404,
  unknown_prediction: 404,
  busy: 503,
};

/** Fastify's own errors that have a better name than `bad_request`. */
const CODE_OF_FASTIFY: Readonly<Record<string, string>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "body_too_large",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "unsupported_media_type",
  FST_ERR_CTP_EMPTY_JSON_BODY: "empty_body",
  FST_ERR_CTP_INVALID_JSON_BODY: "bad_json",
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: "bad_content_length",
  FST_ERR_BAD_URL: "bad_url",
  FST_ERR_MAX_PARAM_LENGTH: "not_found",
  FST_REQ_FILE_TOO_LARGE: "body_too_large",
  Z_DATA_ERROR: "bad_encoding",
  Z_BUF_ERROR: "bad_encoding",
};

/** Turns anything that was thrown into the problem that the caller gets. */
export function toProblem(thrown: unknown): HttpProblem {
  if (thrown instanceof HttpProblem) return thrown;
  if (thrown instanceof FraudstreamError) {
    const status = STATUS_BY_CODE[thrown.code] ?? (thrown instanceof UsageError ? 400 : thrown.retriable ? 503 : 500);
    return new HttpProblem(status, status === 500 ? "internal" : thrown.code, thrown.message, { cause: thrown, ...(status === 503 ? { headers: { "retry-after": "1" } } : {}) });
  }
  const error = (thrown ?? {}) as Partial<FastifyError>;
  if (Array.isArray(error.validation)) {
    const errors = badFields(error.validation, error.validationContext ?? "body");
    return new HttpProblem(400, "invalid_request", errors.map(({ field, message }) => `${field}: ${message}`).slice(0, 5).join("; "), { errors });
  }
  const status = typeof error.statusCode === "number" && error.statusCode >= 400 && error.statusCode < 500 ? error.statusCode : 500;
  if (status === 500) return new HttpProblem(500, "internal", "internal error", { cause: thrown });
  // The parser's message quotes the body, which may hold a password.
  const detail = thrown instanceof SyntaxError ? "the body is not JSON" : (error.message ?? "bad request");
  return new HttpProblem(status, CODE_OF_FASTIFY[error.code ?? ""] ?? (thrown instanceof SyntaxError ? "bad_json" : "bad_request"), detail);
}

/** The body of a problem: RFC 9457, with our `code`, `request_id` and `errors`. */
export function problemBody({ status, code, title, detail, errors, told }: HttpProblem, requestId: string): Record<string, unknown> {
  return {
    type: "about:blank",
    title,
    status,
    code,
    detail: status >= 500 && !told ? `${title}. The log has the details under this request id.` : detail,
    request_id: requestId,
    ...(errors === undefined ? {} : { errors }),
  };
}

/** Sends whatever was thrown; 5xx are logged with the request's id, and say nothing. */
export function sendProblem(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const problem = toProblem(thrown);
  if (problem.status >= 500) {
    request.log[problem.status === 500 ? "error" : "warn"]({ err: problem.cause ?? problem, code: problem.code, request_id: request.id, route: request.routeOptions.url }, "a request failed");
  }
  request.problemCode = problem.code;
  void reply.code(problem.status).headers(problem.headers).type("application/problem+json").send(problemBody(problem, request.id));
}

/** Answers for everything that was thrown and for what isn't there. */
export function problems(app: FastifyInstance): void {
  app.decorateRequest("problemCode", "");
  app.setErrorHandler(sendProblem);
  app.setNotFoundHandler((request, reply) => sendProblem(new HttpProblem(404, "not_found", "there is no such route"), request, reply));
}

declare module "fastify" {
  interface FastifyRequest {
    /** The code of the problem that this request was answered with; empty: none. */
    problemCode: string;
  }
}
