import { STATUS_CODES } from "node:http";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { errorRow, type ErrorCode, type ProblemCode } from "../../schemas/error-codes.js";
import { FraudstreamError, RequestError } from "../../schemas/errors.js";
import { badFields, type BadField } from "./bad-fields.js";

export interface ProblemOptions {
  /** @default that of the code's row */
  status?: number;
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
  readonly code: ErrorCode;
  readonly title: string;
  /** For people; kept to the log when the status is 500 or above, unless it is `told`. */
  readonly detail: string;
  readonly errors: readonly BadField[] | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly told: boolean;

  constructor(code: ProblemCode, detail: string, options?: ProblemOptions);
  constructor(code: ErrorCode, detail: string, options: ProblemOptions & { status: number });
  constructor(code: ErrorCode, detail: string, options: ProblemOptions = {}) {
    const { status = errorRow(code)?.status ?? 500, title, errors, headers = {}, told = false, cause } = options;
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

/** Fastify's own errors that have a better name than `bad_request`. */
const CODE_OF_FASTIFY: Readonly<Record<string, ProblemCode>> = {
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
    const status = statusOf(thrown);
    return new HttpProblem(status === 500 ? "internal" : thrown.code, thrown.message, {
      status,
      cause: thrown,
      ...(status === 503 ? { headers: { "retry-after": "1" } } : {}),
    });
  }
  const error = (thrown ?? {}) as Partial<FastifyError>;
  if (Array.isArray(error.validation)) {
    const errors = badFields(error.validation, error.validationContext ?? "body");
    return new HttpProblem(
      "invalid_request",
      errors
        .map(({ field, message }) => `${field}: ${message}`)
        .slice(0, 5)
        .join("; "),
      { errors },
    );
  }
  const status =
    typeof error.statusCode === "number" && error.statusCode >= 400 && error.statusCode < 500 ? error.statusCode : 500;
  if (status === 500) return new HttpProblem("internal", "internal error", { cause: thrown });
  // The parser's message quotes the body, which may hold a password.
  const detail = thrown instanceof SyntaxError ? "the body is not JSON" : (error.message ?? "bad request");
  return new HttpProblem(
    CODE_OF_FASTIFY[error.code ?? ""] ?? (thrown instanceof SyntaxError ? "bad_json" : "bad_request"),
    detail,
    { status },
  );
}

/**
 * Of an error that another part of the system throws: what was asked for is wrong, or isn't there, or may be later. The
 * rest is our mistake.
 */
function statusOf(thrown: FraudstreamError): number {
  const status = errorRow(thrown.code)?.status;
  if (thrown instanceof RequestError) return status ?? 400;
  if (thrown.retriable) return 503;
  // 400 and 422 blame the caller, who is not to blame for a stored manifest that is wrong.
  return status === 404 || status === 409 ? status : 500;
}

/** The body of a problem: RFC 9457, with our `code`, `request_id` and `errors`. */
export function problemBody(
  { status, code, title, detail, errors, told }: HttpProblem,
  requestId: string,
): Record<string, unknown> {
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
    request.log[problem.status === 500 ? "error" : "warn"](
      { err: problem.cause ?? problem, code: problem.code, request_id: request.id, route: request.routeOptions.url },
      "a request failed",
    );
  }
  request.problemCode = problem.code;
  void reply
    .code(problem.status)
    .headers(problem.headers)
    .type("application/problem+json")
    .send(problemBody(problem, request.id));
}

/** Answers for everything that was thrown and for what isn't there. */
export function problems(app: FastifyInstance): void {
  app.decorateRequest("problemCode", "");
  app.setErrorHandler(sendProblem);
  app.setNotFoundHandler((request, reply) =>
    sendProblem(new HttpProblem("not_found", "there is no such route"), request, reply),
  );
}

declare module "fastify" {
  interface FastifyRequest {
    /** The code of the problem that this request was answered with; empty: none. */
    problemCode: string;
  }
}
