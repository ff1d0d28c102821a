import { createHmac } from "node:crypto";
import { SignJWT, exportSPKI, generateKeyPair, type JWTHeaderParameters } from "jose";
import { describe, expect, test } from "vitest";
import { createTokens, keyId, TokenRefused } from "../../../../api/users/tokens.js";
import { readConfig } from "../../../../infra/config/config.js";

const SECRET = "thirty-two bytes of a secret, at least.";
const { auth } = readConfig({ JWT_SECRET: SECRET });
const tokens = createTokens(auth);
const key = new TextEncoder().encode(SECRET);
const now = (): number => Math.floor(Date.now() / 1000);
const good = (header: JWTHeaderParameters = { alg: "HS256", typ: "JWT" }): SignJWT =>
  new SignJWT({ ver: 1 })
    .setProtectedHeader(header)
    .setSubject("u1")
    .setIssuer("fraudstream")
    .setAudience("fraudstream")
    .setIssuedAt(now())
    .setNotBefore(now())
    .setExpirationTime(now() + 60);
const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");

async function codeOf(token: string | Promise<string>): Promise<string> {
  const text = await token;
  const error: unknown = await tokens.verify(text).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(TokenRefused);
  if (text.length > 20) expect((error as Error).message).not.toContain(text);
  return (error as TokenRefused).code;
}

test("a token of ours is accepted", async () => {
  const issued = await tokens.issue({ id: "u1", token_version: 3 });
  const verified = await tokens.verify(issued);
  expect(verified).toMatchObject({ subject: "u1", version: 3 });
  expect(Math.abs(verified.expiresAt - now() - auth.tokenSeconds)).toBeLessThan(10);
  expect(await tokens.verify(await good().sign(key))).toMatchObject({ subject: "u1", version: 1 });
});

describe("refused", () => {
  test("no algorithm, in any spelling", async () => {
    const claims = {
      sub: "u1",
      ver: 1,
      iss: "fraudstream",
      aud: "fraudstream",
      iat: now(),
      nbf: now(),
      exp: now() + 60,
    };
    for (const alg of ["none", "None", "NONE", ""]) {
      for (const signature of ["", "AAAA"])
        expect(await codeOf(`${part({ alg, typ: "JWT" })}.${part(claims)}.${signature}`)).toBe("bad_token");
    }
  });

  test("other algorithms, though the key is right", async () => {
    for (const alg of ["HS384", "HS512"])
      expect(await codeOf(good({ alg, typ: "JWT" }).sign(Buffer.concat([key, Buffer.alloc(64)])))).toBe("bad_token");
    const { privateKey } = await generateKeyPair("RS256");
    expect(await codeOf(good({ alg: "RS256", typ: "JWT" }).sign(privateKey))).toBe("bad_token");
  });

  test("another secret, and a changed claim", async () => {
    expect(await codeOf(good().sign(Buffer.from("another secret of thirty-two bytes")))).toBe("bad_token");
    const [head, , signature] = (await good().sign(key)).split(".");
    const changed = { sub: "admin", ver: 1, iss: "fraudstream", aud: "fraudstream", iat: now(), nbf: now() };
    expect(await codeOf(`${head}.${part({ ...changed, exp: now() + 60 })}.${signature}`)).toBe("bad_token");
  });

  test("expired, not yet valid, issued in the future, older than any of ours", async () => {
    expect(
      await codeOf(
        good()
          .setExpirationTime(now() - 60)
          .sign(key),
      ),
    ).toBe("token_expired");
    expect(
      await codeOf(
        good()
          .setNotBefore(now() + 60)
          .sign(key),
      ),
    ).toBe("token_not_yet_valid");
    expect(
      await codeOf(
        good()
          .setIssuedAt(now() + 60)
          .sign(key),
      ),
    ).toBe("token_not_yet_valid");
    expect(
      await codeOf(
        good()
          .setIssuedAt(now() - auth.tokenSeconds - 60)
          .setNotBefore(now() - auth.tokenSeconds - 60)
          .setExpirationTime(now() + 1e9)
          .sign(key),
      ),
    ).toBe("token_expired");
  });

  test("a foreign token: wrong issuer, audience or type, or a missing claim", async () => {
    expect(await codeOf(good().setIssuer("other").sign(key))).toBe("bad_token");
    expect(await codeOf(good().setAudience("other").sign(key))).toBe("bad_token");
    expect(await codeOf(good({ alg: "HS256", typ: "at+jwt" }).sign(key))).toBe("bad_token");
    for (const missing of ["sub", "exp", "nbf", "iat", "ver", "iss", "aud"]) {
      const claims: Record<string, unknown> = {
        sub: "u1",
        ver: 1,
        iss: "fraudstream",
        aud: "fraudstream",
        iat: now(),
        nbf: now(),
        exp: now() + 60,
      };
      delete claims[missing];
      expect(
        await codeOf(new SignJWT(claims).setProtectedHeader({ alg: "HS256", typ: "JWT" }).sign(key)),
        missing,
      ).toBe("bad_token");
    }
    expect(
      await codeOf(
        new SignJWT({
          sub: "u1",
          ver: "1",
          iss: "fraudstream",
          aud: "fraudstream",
          iat: now(),
          nbf: now(),
          exp: now() + 60,
        })
          .setProtectedHeader({ alg: "HS256", typ: "JWT" })
          .sign(key),
      ),
    ).toBe("bad_token");
  });

  test("a key that comes with the token, and unknown headers", async () => {
    expect(
      await codeOf(
        good({ alg: "HS256", typ: "JWT", jku: "https://evil.example/keys", kid: "../../dev/null" }).sign(
          Buffer.alloc(32),
        ),
      ),
    ).toBe("bad_token");
    const [, claims] = (await good().sign(key)).split(".");
    const head = `${part({ alg: "HS256", typ: "JWT", crit: ["unheard-of"], "unheard-of": true })}.${claims}`;
    expect(await codeOf(`${head}.${createHmac("sha256", key).update(head).digest("base64url")}`)).toBe("bad_token");
    for (const junk of ["", "a", "a.b", "a.b.c", "..", "a.b.c.d", "\u0000.\u0000.\u0000"])
      expect(await codeOf(junk)).toBe("bad_token");
  });
});

test("algorithm confusion: an HMAC keyed with a public key is refused if the keys are the provider's", async () => {
  const { publicKey } = await generateKeyPair("RS256", { extractable: true });
  const pem = await exportSPKI(publicKey);
  const foreign = createTokens({ ...auth, jwtSecret: null, jwksUrl: "http://127.0.0.1:9/keys" });
  const claims = { sub: "admin", iss: "fraudstream", aud: "fraudstream", exp: now() + 60 };
  const head = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  const forged = `${head}.${createHmac("sha256", pem).update(head).digest("base64url")}`;
  // Refused for its algorithm, before any key is asked for: there is nobody at that address.
  await expect(foreign.verify(forged)).rejects.toMatchObject({ code: "bad_token" });
});

describe("a change of secrets", () => {
  const NEW = "another thirty-two bytes of a secret, newer.";
  const of = (jwtSecret: string, jwtSecretAccepted: string | null): ReturnType<typeof createTokens> =>
    createTokens({ ...auth, jwtSecret, jwtSecretAccepted });
  const user = { id: "u1", token_version: 1 };
  const refused = { code: "bad_token" };

  test(
    "every copy takes the tokens of every other one at each of its steps; at the end those of the old secret " +
      "are refused",
    async () => {
      const steps = [of(SECRET, null), of(SECRET, NEW), of(NEW, SECRET), of(NEW, null)];
      for (const [i, copy] of steps.entries()) {
        // Copies are restarted one after the other: those of two neighbouring steps run side by side.
        for (const other of steps.slice(Math.max(0, i - 1), i + 2))
          expect(await other.verify(await copy.issue(user))).toMatchObject({ subject: "u1" });
      }
      const old = await steps[1].issue(user);
      expect(await steps[2].verify(old)).toMatchObject({ subject: "u1" });
      await expect(steps[3].verify(old)).rejects.toMatchObject(refused);
      await expect(steps[0].verify(await steps[3].issue(user))).rejects.toMatchObject(refused);
    },
  );

  test("the token names its key, which reveals nothing of the secret; the name decides which key is used", async () => {
    const both = of(NEW, SECRET);
    const head = JSON.parse(Buffer.from((await both.issue(user)).split(".")[0], "base64url").toString()) as object;
    expect(head).toEqual({ alg: "HS256", typ: "JWT", kid: keyId(NEW) });
    expect(keyId(NEW)).toMatch(/^[A-Za-z0-9_-]{12}$/);
    const signed = (kid: string | undefined, secret: string, alg = "HS256"): Promise<string> =>
      good({ alg, typ: "JWT", ...(kid === undefined ? {} : { kid }) }).sign(
        Buffer.concat([Buffer.from(secret), Buffer.alloc(alg === "HS256" ? 0 : 64)]),
      );
    expect(await both.verify(await signed(keyId(SECRET), SECRET))).toMatchObject({ subject: "u1" });
    // Of a version that named none: the newest key's.
    expect(await both.verify(await signed(undefined, NEW))).toMatchObject({ subject: "u1" });
    for (const forged of [
      signed(undefined, SECRET),
      signed(keyId(NEW), SECRET),
      signed(keyId(SECRET), NEW),
      signed("unknown", NEW),
      signed("", NEW),
      signed(keyId(NEW), NEW, "HS512"),
      signed("__proto__", NEW),
    ]) {
      await expect(both.verify(await forged)).rejects.toMatchObject(refused);
    }
    const { privateKey } = await generateKeyPair("RS256");
    await expect(
      both.verify(await good({ alg: "RS256", typ: "JWT", kid: keyId(NEW) }).sign(privateKey)),
    ).rejects.toMatchObject(refused);
  });
});

test("without a secret or keys there are no tokens", () => {
  expect(() => createTokens(readConfig({}).auth)).toThrow(/JWT_SECRET/);
});
