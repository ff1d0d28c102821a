import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UsageError } from "../../schemas/errors.js";

/** Files that hold what `npm start` made up, for JWT_SECRET_FILE and ADMIN_PASSWORD_FILE of the API. */
export interface SecretFiles {
  jwtSecretFile: string;
  adminPasswordFile: string;
}

const BYTES = 32;
/** A password is typed by people: 144 bits, without characters that a shell would take for its own. */
const PASSWORD_BYTES = 18;

/**
 * The secrets of a data directory, made at the first call and kept: readable by their owner only.
 *
 * @throws UsageError `secrets` when they can't be written or read
 */
export function ensureSecrets(dataDir: string): SecretFiles {
  const folder = join(dataDir, "secrets");
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return {
      jwtSecretFile: ensureSecret(join(folder, "jwt-secret"), BYTES),
      adminPasswordFile: ensureSecret(join(folder, "admin-password"), PASSWORD_BYTES),
    };
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new UsageError("secrets", `the secrets in ${folder} can't be written or read`, { cause });
  }
}

function ensureSecret(file: string, bytes: number): string {
  try {
    // "wx": of two that start at once, one writes and the other takes what it wrote.
    writeFileSync(file, `${randomBytes(bytes).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  chmodSync(file, 0o600);
  if (readFileSync(file, "utf8").trim() === "")
    throw new UsageError("secrets", `${file} is empty: remove it, and another is made`);
  return file;
}
