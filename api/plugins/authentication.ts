import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ProblemCode } from "../../schemas/error-codes.js";
import { messageOf } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import type { Role } from "../users/roles.js";
import { TokenRefused } from "../users/tokens.js";
import { HttpProblem } from "./errors.js";
import type { RateLimits } from "./rate-limits.js";

/** Who makes a request. */
interface AuthenticatedUser {
  id: string;
  username: string;
  role: Role;
}

/** The token that a request came with. */
interface SignedIn {
  user: AuthenticatedUser;
  /** Epoch seconds. */ expiresAt: number;
}

declare module "fastify" {
  interface FastifyRequest {
    /** Who is signed in; null on public routes without a token. */
    signedIn: SignedIn | null;
    /** Who is signed in. Throws a 401 when nobody is. */
    readonly user: AuthenticatedUser;
  }
}

/** Adds `request.signedIn` and `request.user`; nobody is signed in until `authenticate` has run. */
export function authentication(app: FastifyInstance): void {
  app.decorateRequest("signedIn", null);
  app.decorateRequest("user", {
    getter(this: FastifyRequest) {
      if (this.signedIn === null) throw unauthenticated("no_token", "sign in first: Authorization: Bearer <token>");
      return this.signedIn.user;
    },
  });
}

/**
 * A hook that finds out who makes a request. The token says only who; whether that user is still there and enabled, and
 * what they may do, is read from fraud.users as of now.
 */
export function authenticate(
  { tokens, users, log }: Pick<ApiContext, "tokens" | "users" | "log">,
  limits: RateLimits,
): (request: FastifyRequest) => Promise<void> {
  return async function checkToken(request) {
    try {
      request.signedIn = await signedInWith(bearerOf(request));
    } catch (error) {
      if (error instanceof HttpProblem && error.status === 401) await limits.refusedToken(request);
      throw error;
    }
    await limits.signedIn(request);
  };

  async function signedInWith(token: string): Promise<SignedIn> {
    if (users.stale)
      throw new HttpProblem(
        "users_stale",
        "this copy has not heard from Kafka who is disabled for over two minutes; try again",
        { headers: { "retry-after": "5" } },
      );
    try {
      const { subject, version, expiresAt } = await tokens.verify(token);
      const by = tokens.subjectIs === "id" ? { id: subject } : { username: subject };
      let user = await users.find(by);
      // Another copy gave this token after a new password that this one hasn't read of yet.
      if (user !== undefined && version !== null && version > user.token_version) {
        await users.readToEnd();
        user = await users.find(by);
      }
      if (user === undefined) throw unauthenticated("unknown_user", "the user of this token isn't there any more");
      if (!user.enabled) throw unauthenticated("user_disabled", "this user is disabled");
      if (version !== null && version !== user.token_version)
        throw unauthenticated("token_revoked", "the password was changed after this token was made: sign in again");
      return { user: { id: user.id, username: user.username, role: user.role }, expiresAt };
    } catch (error) {
      if (!(error instanceof TokenRefused)) throw error;
      log.debug({ code: error.code }, `a token was refused: ${messageOf(error)}`);
      throw unauthenticated(error.code, error.message);
    }
  }
}

function bearerOf(request: FastifyRequest): string {
  const header = request.headers.authorization;
  if (header === undefined) throw unauthenticated("no_token", "sign in first: Authorization: Bearer <token>");
  const token = /^Bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*)$/i.exec(header)?.[1];
  if (token === undefined) throw unauthenticated("bad_token", "the Authorization header is not: Bearer <token>");
  return token;
}

function unauthenticated(code: ProblemCode, detail: string): HttpProblem {
  return new HttpProblem(code, detail, {
    status: 401,
    headers: { "www-authenticate": code === "no_token" ? "Bearer" : 'Bearer error="invalid_token"' },
  });
}
