import { createHmac, createSecretKey, randomUUID, type KeyObject } from "node:crypto";
import {
  SignJWT,
  createRemoteJWKSet,
  errors,
  jwtVerify,
  type JWTHeaderParameters,
  type JWTPayload,
  type JWTVerifyOptions,
  type JWTVerifyResult,
} from "jose";
import type { AuthConfig } from "../../infra/config/config.js";
import { FraudstreamError, UsageError, messageOf } from "../../schemas/errors.js";

/** What a good token says. */
interface VerifiedToken {
  subject: string;
  /** The user's token version when it was made; null: not one of ours. */
  version: number | null;
  /** Epoch seconds. */
  expiresAt: number;
}

type RefusalCode = "bad_token" | "token_expired" | "token_not_yet_valid";

/** Why a token isn't taken. */
export class TokenRefused extends FraudstreamError {
  declare readonly code: RefusalCode;

  constructor(code: RefusalCode, message: string, options: { cause?: unknown } = {}) {
    super(code, message, options);
  }
}

export interface Tokens {
  /** False where an identity provider makes the tokens. */
  readonly canSign: boolean;
  /** What the subject of a token is: the user's id, or (an identity provider's) the username. */
  readonly subjectIs: "id" | "username";
  readonly lifetimeSeconds: number;
  /** A token for a user. @throws FraudstreamError `sign_in_off` */
  issue(user: { id: string; token_version: number }): Promise<string>;
  /** @throws TokenRefused, or FraudstreamError `jwks_unreachable` (retriable) */
  verify(token: string): Promise<VerifiedToken>;
}

const OURS = "HS256";
/** What identity providers sign with; never a symmetric one, whose "key" would be public. */
const THEIRS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"];
/** Clocks of two machines differ by about this much, seconds. */
const CLOCK_TOLERANCE = 5;

/**
 * Tokens as the settings say: our own, or an identity provider's.
 *
 * @throws UsageError `bad_setting` without either
 */
export function createTokens(auth: AuthConfig): Tokens {
  if (auth.jwtSecret !== null)
    return ownTokens(auth, [auth.jwtSecret, ...(auth.jwtSecretAccepted === null ? [] : [auth.jwtSecretAccepted])]);
  if (auth.jwksUrl !== null) return foreignTokens(auth, auth.jwksUrl);
  throw new UsageError(
    "bad_setting",
    "neither JWT_SECRET nor JWKS_URL is set: without one of them no user can sign in (npm start generates a secret)",
  );
}

/** The name of a key in the head of the tokens that it signs; tells nothing of the key. */
export function keyId(secret: string): string {
  return createHmac("sha256", secret).update("fraudstream key id").digest("base64url").slice(0, 12);
}

/** @param secrets the first signs, each is accepted */
function ownTokens({ issuer, audience, tokenSeconds }: AuthConfig, secrets: readonly string[]): Tokens {
  const [kid] = secrets.map(keyId);
  const keys = new Map<string | undefined, KeyObject>(
    secrets.map((secret) => [keyId(secret), createSecretKey(Buffer.from(secret))]),
  );
  const key = keys.get(kid) as KeyObject;
  // Tokens of versions that named no key: those of the newest.
  keys.set(undefined, key);
  const keyOf = (header: JWTHeaderParameters): KeyObject => {
    const named = keys.get(header.kid);
    if (named === undefined)
      throw new TokenRefused(
        "bad_token",
        "this token was signed with a key that isn't in use (any more): sign in again",
      );
    return named;
  };
  const checks: JWTVerifyOptions = {
    algorithms: [OURS],
    issuer,
    audience,
    clockTolerance: CLOCK_TOLERANCE,
    maxTokenAge: tokenSeconds,
    requiredClaims: ["sub", "exp", "nbf", "iat", "ver"],
    typ: "JWT",
  };
  return {
    canSign: true,
    subjectIs: "id",
    lifetimeSeconds: tokenSeconds,
    issue({ id, token_version }) {
      const now = Math.floor(Date.now() / 1000);
      return new SignJWT({ ver: token_version })
        .setProtectedHeader({ alg: OURS, typ: "JWT", kid })
        .setSubject(id)
        .setIssuer(issuer)
        .setAudience(audience)
        .setJti(randomUUID())
        .setIssuedAt(now)
        .setNotBefore(now)
        .setExpirationTime(now + tokenSeconds)
        .sign(key);
    },
    async verify(token) {
      const payload = await verified(() => jwtVerify(token, keyOf, checks));
      if (typeof payload.ver !== "number") throw new TokenRefused("bad_token", "this is not a token of ours");
      return { ...subjectOf(payload), version: payload.ver };
    },
  };
}

function foreignTokens({ issuer, audience, tokenSeconds }: AuthConfig, url: string): Tokens {
  const keys = createRemoteJWKSet(new URL(url), {
    timeoutDuration: 5_000,
    cooldownDuration: 10_000,
    cacheMaxAge: 600_000,
  });
  const checks: JWTVerifyOptions = {
    algorithms: THEIRS,
    issuer,
    audience,
    clockTolerance: CLOCK_TOLERANCE,
    requiredClaims: ["sub", "exp"],
  };
  return {
    canSign: false,
    subjectIs: "username",
    lifetimeSeconds: tokenSeconds,
    issue: () =>
      Promise.reject(
        new FraudstreamError(
          "sign_in_off",
          "users sign in at the identity provider of JWKS_URL; this API issues no tokens",
        ),
      ),
    async verify(token) {
      const payload = await verified(() => jwtVerify(token, keys, checks));
      return { ...subjectOf(payload), version: null };
    },
  };
}

/** Runs jose's checks and gives what they throw a code of ours. */
async function verified(check: () => Promise<JWTVerifyResult>): Promise<JWTPayload> {
  try {
    return (await check()).payload;
  } catch (cause) {
    if (cause instanceof TokenRefused) throw cause;
    if (cause instanceof errors.JWTExpired)
      throw new TokenRefused("token_expired", "this token has expired: sign in again", { cause });
    if (cause instanceof errors.JWTClaimValidationFailed) {
      const early = (cause.claim === "nbf" || cause.claim === "iat") && cause.reason === "check_failed";
      throw early
        ? new TokenRefused("token_not_yet_valid", "this token isn't valid yet", { cause })
        : new TokenRefused("bad_token", "this token was not made for this API", { cause });
    }
    const unreachable =
      cause instanceof errors.JWKSTimeout ||
      cause instanceof errors.JWKSInvalid ||
      !(cause instanceof errors.JOSEError) ||
      cause.code === "ERR_JOSE_GENERIC";
    if (unreachable)
      throw new FraudstreamError("jwks_unreachable", `JWKS_URL does not give keys: ${messageOf(cause)}`, { cause });
    throw new TokenRefused("bad_token", "this is not a token that this API takes", { cause });
  }
}

function subjectOf({ sub, exp }: JWTPayload): { subject: string; expiresAt: number } {
  if (typeof sub !== "string" || sub === "" || typeof exp !== "number")
    throw new TokenRefused("bad_token", "the token names no user");
  return { subject: sub, expiresAt: exp };
}
