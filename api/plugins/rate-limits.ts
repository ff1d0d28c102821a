import rateLimit from "@fastify/rate-limit";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { HttpConfig } from "../../infra/config/config.js";
import { HttpProblem } from "./errors.js";

/** Each throws a 429 with Retry-After when a caller has had enough. Counted by this copy alone, in memory. */
export interface RateLimits {
  /** Users who make themselves, by address. Sign-ins are `SignInLocks`'. */
  registration: (request: FastifyRequest) => Promise<void>;
  /** Probes and metrics, by address. */
  probes: (request: FastifyRequest) => Promise<void>;
  /** Other public routes, by address. */
  open: (request: FastifyRequest) => Promise<void>;
  /** Tokens that were refused, by address; good ones from the same address are served all the same. */
  refusedToken: (request: FastifyRequest) => Promise<void>;
  /** Requests with a good token, by user. */
  signedIn: (request: FastifyRequest) => Promise<void>;
}

const MINUTE_MS = 60_000;
const OPEN_A_MINUTE = 6_000;
const REFUSED_TOKENS_A_MINUTE = 600;

export async function rateLimits(app: FastifyInstance, config: HttpConfig): Promise<RateLimits> {
  await app.register(rateLimit, { global: false });
  const byAddress = (max: number): ReturnType<typeof app.createRateLimit> =>
    app.createRateLimit({ max, timeWindow: MINUTE_MS });
  const registration = byAddress(config.signInRateLimit);
  const probes = byAddress(OPEN_A_MINUTE);
  const open = byAddress(OPEN_A_MINUTE);
  const refused = byAddress(REFUSED_TOKENS_A_MINUTE);
  const signedIn = app.createRateLimit({
    max: config.rateLimit,
    timeWindow: MINUTE_MS,
    keyGenerator: (request) => request.user.id,
  });

  const enforce = (limit: typeof open, what: string) => async (request: FastifyRequest) => {
    const result = await limit(request);
    if (!result.isAllowed && result.isExceeded) throw tooMany(what, result.ttlInSeconds);
  };
  return {
    registration: enforce(registration, "registrations from this address"),
    probes: enforce(probes, "probes from this address"),
    open: enforce(open, "requests from this address"),
    refusedToken: enforce(refused, "refused tokens from this address"),
    signedIn: enforce(signedIn, "requests by this user"),
  };
}

export function tooMany(what: string, seconds: number): HttpProblem {
  const wait = Math.max(1, Math.ceil(seconds));
  return new HttpProblem("too_many_requests", `too many ${what}: try again in ${wait} s`, {
    headers: { "retry-after": String(wait) },
  });
}
