import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { Type } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import { LONGEST_PASSWORD, LONGEST_SIGN_IN_NAME } from "../../infra/config/config.js";
import { HttpProblem } from "../plugins/errors.js";
import type { ApiContext } from "../context.js";
import { canonicalName } from "../users/user-fold.js";
import { UNKNOWN } from "../plugins/audit.js";
import { countedAddress } from "../users/sign-in-locks.js";
import { tooMany } from "../plugins/rate-limits.js";

export const TokenSchema = Type.Object(
  {
    access_token: Type.String(),
    token_type: Type.Literal("Bearer"),
    expires_in: Type.Integer({ description: "Seconds." }),
  },
  { title: "Token" },
);

/** A new token, as it is answered. */
export async function tokenFor(
  tokens: ApiContext["tokens"],
  user: { id: string; token_version: number },
): Promise<{ access_token: string; token_type: "Bearer"; expires_in: number }> {
  return { access_token: await tokens.issue(user), token_type: "Bearer", expires_in: tokens.lifetimeSeconds };
}

/** POST /api/v1/tokens: a token for a name and a password. Needs no ClickHouse. */
export async function tokenRoutes(
  app: FastifyInstance,
  { tokens, users, passwords, locks }: ApiContext,
): Promise<void> {
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const schema = {
    tags: ["users"],
    summary: "Sign in",
    // No pattern and hardly a limit here: which names there can be is nothing to learn from an answer.
    body: Type.Object(
      {
        username: Type.String({ maxLength: LONGEST_SIGN_IN_NAME }),
        password: Type.String({ maxLength: LONGEST_PASSWORD }),
      },
      {
        additionalProperties: false,
        title: "SignIn",
        examples: [{ username: "ann", password: "a long password of hers" }],
      },
    ),
    response: { 200: Type.Object(TokenSchema.properties, { title: "Token", description: "A token for this user." }) },
  };
  api.post("/api/v1/tokens", { schema }, async (request, reply) => {
    if (!tokens.canSign)
      throw new HttpProblem(
        "sign_in_off",
        "users sign in at the identity provider of JWKS_URL; this API issues no tokens",
      );
    const { username, password } = request.body;
    const attempt = { name: canonicalName(username), address: countedAddress(request.ip) };
    request.tried = users.named(username) ?? UNKNOWN;
    const wait = locks.waitOf(attempt);
    if (wait > 0) throw tooMany("wrong passwords for this name, or from this address", wait);
    locks.count(attempt);
    const user = await users.current(username);
    request.tried = user ?? UNKNOWN;
    const right = await passwords.verify(user?.password_hash ?? null, password, { first: locks.isKnown(attempt) });
    // One answer for all three, after the same work: it doesn't tell which names there are.
    if (user === undefined || !right || !user.enabled)
      throw new HttpProblem("wrong_credentials", "the username or the password is wrong, or the user is disabled");
    locks.right(attempt);
    // From here on it is their request, and in the request log.
    request.signedIn = {
      user: { id: user.id, username: user.username, role: user.role },
      expiresAt: Math.floor(Date.now() / 1_000) + tokens.lifetimeSeconds,
    };
    void reply.header("cache-control", "no-store");
    return tokenFor(tokens, user);
  });
  return Promise.resolve();
}
