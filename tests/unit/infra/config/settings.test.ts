import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { readConfig } from "../../../../infra/config/config.js";

const SECRET = "x".repeat(32);

test("defaults: nobody can sign in, registration and CORS are closed", () => {
  const { auth, http } = readConfig({});
  expect(auth).toEqual({
    jwtSecret: null,
    jwtSecretAccepted: null,
    jwksUrl: null,
    issuer: "fraudstream",
    audience: "fraudstream",
    tokenSeconds: 3600,
    registration: null,
    adminUsername: null,
    adminPassword: null,
  });
  expect(http).toMatchObject({ metricsOpen: true, corsOrigins: [], trustProxy: [] });
});

test("every setting, secrets also from files", () => {
  const folder = mkdtempSync(join(tmpdir(), "fraudstream-settings-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "secret");
  writeFileSync(file, `${SECRET}\n`);
  const config = readConfig({
    JWT_SECRET_FILE: file,
    JWT_SECRET_ACCEPTED: "y".repeat(32),
    ADMIN_PASSWORD_FILE: file,
    ADMIN_USERNAME: "root",
    REGISTRATION: "open",
    TOKEN_SECONDS: "60",
    JWT_ISSUER: "i",
    JWT_AUDIENCE: "a",
    METRICS_OPEN: "false",
    CORS_ORIGINS: "https://a.example, http://b.example:8080",
    TRUST_PROXY: "10.0.0.0/8,::1",
    RATE_LIMIT: "7",
    SIGN_IN_RATE_LIMIT: "3",
  });
  expect(config.auth).toEqual({
    jwtSecret: SECRET,
    jwtSecretAccepted: "y".repeat(32),
    jwksUrl: null,
    issuer: "i",
    audience: "a",
    tokenSeconds: 60,
    registration: "open",
    adminUsername: "root",
    adminPassword: SECRET,
  });
  expect(config.http).toEqual({
    metricsOpen: false,
    corsOrigins: ["https://a.example", "http://b.example:8080"],
    trustProxy: ["10.0.0.0/8", "::1"],
    rateLimit: 7,
    signInRateLimit: 3,
  });
  expect(readConfig({ JWKS_URL: "https://idp.example/keys/" }).auth.jwksUrl).toBe("https://idp.example/keys");
});

test.each([
  [{ JWT_SECRET: "x".repeat(31) }, /^JWT_SECRET has 31 bytes; it must have at least 32$/],
  [{ JWT_SECRET: SECRET, JWT_SECRET_ACCEPTED: "x" }, /^JWT_SECRET_ACCEPTED has 1 bytes; it must have at least 32$/],
  [{ JWT_SECRET: SECRET, JWT_SECRET_ACCEPTED: SECRET }, /^JWT_SECRET_ACCEPTED is the same/],
  [{ JWT_SECRET_ACCEPTED: SECRET }, /but JWT_SECRET is not$/],
  [{ JWT_SECRET: SECRET, JWKS_URL: "https://idp.example" }, /both set/],
  [{ JWKS_URL: "file:///etc/passwd" }, /^JWKS_URL .* an http or https URL$/],
  [{ REGISTRATION: "yes" }, /^REGISTRATION .* closed, open$/],
  [{ ADMIN_PASSWORD: "short" }, /^ADMIN_PASSWORD has 5 characters; it must have at least 12$/],
  [{ TOKEN_SECONDS: "0" }, /^TOKEN_SECONDS /],
  [{ METRICS_OPEN: "no" }, /^METRICS_OPEN /],
  [{ CORS_ORIGINS: "*" }, /^CORS_ORIGINS /],
  [{ CORS_ORIGINS: "https://a.example/path" }, /^CORS_ORIGINS /],
  [{ TRUST_PROXY: "everybody" }, /^TRUST_PROXY /],
])("%o is refused with a line that names it", (env, line) => {
  expect(() => readConfig(env as Record<string, string>)).toThrow(line);
});
