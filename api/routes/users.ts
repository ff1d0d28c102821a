import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { Type, type Static } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import { RequestError } from "../../schemas/errors.js";
import type { User } from "../../schemas/generated.js";
import type { ApiContext } from "../context.js";
import { listAnswerFields, listFields, pageOf, sortField } from "../lists.js";
import { authenticate } from "../plugins/authentication.js";
import { HttpProblem } from "../plugins/errors.js";
import { tooMany, type RateLimits } from "../plugins/rate-limits.js";
import { SignInLocks } from "../users/sign-in-locks.js";
import { can } from "../users/roles.js";
import type { UserChange } from "../users/user-directory.js";
import { tokenFor, TokenSchema } from "./tokens.js";

const RoleSchema = Type.Union(
  [Type.Literal("service"), Type.Literal("analyst"), Type.Literal("operator"), Type.Literal("admin")],
  { description: "The user's permissions; roles do not include each other, except that an admin may do everything." },
);
const UsernameSchema = Type.String({
  minLength: 2,
  maxLength: 64,
  pattern: "^[A-Za-z0-9][A-Za-z0-9._@+|-]*$",
  description: "Names are compared without regard to case.",
});
const PasswordSchema = Type.String({ minLength: 12, maxLength: 256 });
const EmailSchema = Type.String({ format: "email", maxLength: 254 });
const UserSchema = Type.Object(
  {
    id: Type.String({ format: "uuid" }),
    username: Type.String(),
    email: Type.String(),
    role: RoleSchema,
    enabled: Type.Boolean(),
    created_at: Type.String({ format: "date-time" }),
    changed_at: Type.String({ format: "date-time" }),
  },
  { title: "User" },
);
const IdParams = Type.Object({ id: Type.String({ maxLength: 64 }) }, { additionalProperties: false });

/** What others see of a user: never the hash. */
function shown({ id, username, email, role, enabled, created_at, changed_at }: User): Static<typeof UserSchema> {
  return {
    id,
    username,
    email,
    role,
    enabled,
    created_at: new Date(created_at).toISOString(),
    changed_at: new Date(changed_at).toISOString(),
  };
}

/** POST /api/v1/users: by an admin, or where REGISTRATION=open by anybody, who then is an analyst. */
export async function registrationRoutes(app: FastifyInstance, context: ApiContext, limits: RateLimits): Promise<void> {
  const { config, users, passwords, tokens, produce } = context;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const open = config.auth.registration === "open";
  const checkToken = authenticate(context, limits);
  const schema = {
    tags: ["users"],
    summary: "Create a user",
    ...(open ? {} : { security: [{ token: [] }] }),
    body: Type.Object(
      { username: UsernameSchema, password: PasswordSchema, email: EmailSchema, role: Type.Optional(RoleSchema) },
      {
        additionalProperties: false,
        title: "NewUser",
        examples: [
          { username: "ann", password: "a long password of hers", email: "ann@example.com", role: "operator" },
        ],
      },
    ),
    response: {
      201: Type.Object(
        { ...UserSchema.properties, ...Type.Partial(TokenSchema).properties },
        { title: "MadeUser", description: "The user; after a registration, with a token." },
      ),
    },
  };
  api.route({
    method: "POST",
    url: "/api/v1/users",
    schema,
    onRequest: async (request) => {
      if (request.headers.authorization === undefined) await limits.registration(request);
      if (!open || request.headers.authorization !== undefined) await checkToken(request);
      if (!open && !can(request.user.role, "users:write"))
        throw new HttpProblem("forbidden", `the role ${request.user.role} may not make users`);
    },
    handler: async (request, reply) => {
      const { username, password, email, role = "analyst" } = request.body;
      const byAdmin = request.signedIn !== null && can(request.signedIn.user.role, "users:write");
      if (!byAdmin && role !== "analyst")
        throw new HttpProblem("forbidden", `only an admin makes a user with the role ${role}`);
      checkPassword(password, username);
      const passwordHash = await passwords.hash(password);
      const user = await produce((producer) =>
        users.create(producer, { username, email, role, passwordHash, ...(byAdmin ? { by: request.user.id } : {}) }),
      );
      request.tried = user;
      void reply.code(201).headers({ location: `/api/v1/users/${user.id}`, "cache-control": "no-store" });
      return { ...shown(user), ...(byAdmin || !tokens.canSign ? {} : await tokenFor(tokens, user)) };
    },
  });
  return Promise.resolve();
}

/** The users' own routes, and an admin's. */
export async function userRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { users, passwords, tokens, produce } = context;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const tags = ["users"];
  const failures = new SignInLocks({ mostLockMs: 10 * 60_000 });

  const MeSchema = Type.Object(
    { ...UserSchema.properties, token_expires_at: Type.String({ format: "date-time" }) },
    { title: "SignedInUser", description: "Whose token it is, and when it expires." },
  );
  api.get(
    "/api/v1/users/me",
    { config: { permission: "self" }, schema: { tags, summary: "Who am I?", response: { 200: MeSchema } } },
    async (request) => {
      const user = await known(request.user.id);
      return { ...shown(user), token_expires_at: new Date((request.signedIn?.expiresAt ?? 0) * 1000).toISOString() };
    },
  );

  const passwordBody = Type.Object(
    { current_password: Type.String({ maxLength: 1_000 }), password: PasswordSchema },
    { additionalProperties: false },
  );
  const passwordSchema = {
    tags,
    summary: "Change my password",
    description: "Older tokens are no longer accepted; the answer has a new one.",
    body: passwordBody,
    response: {
      200: Type.Object(TokenSchema.properties, { title: "Token", description: "A token with the new password." }),
    },
  };
  api.patch("/api/v1/users/me", { config: { permission: "self" }, schema: passwordSchema }, async (request, reply) => {
    if (!tokens.canSign) throw new HttpProblem("sign_in_off", "passwords are managed by the identity provider");
    const { current_password: current, password } = request.body;
    const user = await known(request.user.id);
    const guarded = { name: user.id, address: "self" };
    const wait = failures.waitOf(guarded);
    if (wait > 0) throw tooMany("wrong passwords", wait);
    failures.count(guarded);
    if (!(await passwords.verify(user.password_hash, current)))
      throw new HttpProblem("wrong_password", "the current password is wrong");
    failures.right(guarded);
    checkPassword(password, user.username);
    const passwordHash = await passwords.hash(password);
    const changed = await produce((producer) => users.change(producer, user.id, { passwordHash }, user.id));
    void reply.header("cache-control", "no-store");
    return tokenFor(tokens, changed);
  });

  const listQuery = Type.Object(
    {
      role: Type.Optional(RoleSchema),
      enabled: Type.Optional(Type.Boolean()),
      sort: sortField(["created_at", "-created_at", "username", "-username"]),
      ...listFields(1_000, 1_000),
    },
    { additionalProperties: false },
  );
  const listSchema = {
    tags,
    summary: "All users",
    querystring: listQuery,
    response: {
      200: Type.Object(
        { users: Type.Array(UserSchema), ...listAnswerFields },
        { description: "Oldest first, unless sort says otherwise." },
      ),
    },
  };
  api.get(
    "/api/v1/users",
    { config: { permission: "users:read" }, schema: listSchema },
    async ({ query: { role, enabled, sort, limit = 1_000, cursor } }) => {
      await users.readToEnd();
      const found = users
        .all()
        .filter(
          (user) => (role === undefined || user.role === role) && (enabled === undefined || user.enabled === enabled),
        );
      if (sort?.endsWith("username")) found.sort((a, b) => a.username.localeCompare(b.username));
      if (sort?.startsWith("-")) found.reverse();
      const { page, ...rest } = pageOf(found, ({ id }) => id, { limit, cursor });
      return { users: page.map(shown), ...rest };
    },
  );

  const changeBody = Type.Object(
    {
      enabled: Type.Optional(Type.Boolean()),
      role: Type.Optional(RoleSchema),
      password: Type.Optional({
        ...PasswordSchema,
        description: "A new password for a user who has forgotten theirs; their tokens become invalid.",
      }),
    },
    { additionalProperties: false, minProperties: 1, examples: [{ password: "a new password for ann" }] },
  );
  const changeSchema = {
    tags,
    summary: "Enable or disable a user, change the role, or reset the password",
    description: "Takes effect everywhere within a second.",
    params: IdParams,
    body: changeBody,
    response: { 200: Type.Object(UserSchema.properties, { title: "User", description: "The updated user." }) },
  };
  api.patch("/api/v1/users/:id", { config: { permission: "users:write" }, schema: changeSchema }, async (request) => {
    const { enabled, role, password } = request.body;
    const change: UserChange = {
      ...(enabled === undefined ? {} : { enabled }),
      ...(role === undefined ? {} : { role }),
    };
    if (password !== undefined) {
      if (!tokens.canSign) throw new HttpProblem("sign_in_off", "passwords are managed by the identity provider");
      checkPassword(password, (await known(request.params.id)).username);
      change.passwordHash = await passwords.hash(password);
    }
    return shown(await produce((producer) => users.change(producer, request.params.id, change, request.user.id)));
  });

  const removeSchema = {
    tags,
    summary: "Remove a user",
    params: IdParams,
    response: { 204: Type.Null({ description: "Removed; the name is free." }) },
  };
  api.delete(
    "/api/v1/users/:id",
    { config: { permission: "users:write" }, schema: removeSchema },
    async (request, reply) => {
      await produce((producer) => users.remove(producer, request.params.id));
      return reply.code(204).send(null);
    },
  );
  return Promise.resolve();

  async function known(id: string): Promise<User> {
    const user = await users.find({ id });
    if (user === undefined) throw new HttpProblem("unknown_user", "no user has this id");
    return user;
  }
}

function checkPassword(password: string, username: string): void {
  if (password.toLowerCase().includes(username.toLowerCase()))
    throw new RequestError("weak_password", "the password contains the username");
}
