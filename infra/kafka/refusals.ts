import { UsageError } from "../../schemas/errors.js";

/** What Node reports about a server's certificate that it rejects (tls, OpenSSL's X509_V_ERR_…). */
const CERTIFICATE_CODES = new Set([
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_SIGNATURE_FAILURE",
  "CERT_UNTRUSTED",
  "CERT_REVOKED",
  "CERT_REJECTED",
  "CERT_CHAIN_TOO_LONG",
  "INVALID_CA",
  "INVALID_PURPOSE",
  "HOSTNAME_MISMATCH",
  "ERR_TLS_CERT_ALTNAME_INVALID",
]);

/** The parts used here of what both client libraries throw. */
interface ClientFailure {
  code?: unknown;
  name?: unknown;
  message?: string;
  type?: unknown;
  topic?: unknown;
  cause?: unknown;
  errors?: unknown;
}

/** Why a connection can never work as configured; null: it may be passing trouble. */
export function connectionRefusal(
  error: unknown,
): { name: "UNTRUSTED_CERTIFICATE" | "SASL_AUTHENTICATION_FAILED"; detail: string } | null {
  for (const failure of causesOf(error)) {
    const { code, name, message = "" } = failure;
    if (CERTIFICATE_CODES.has(code as string)) return { name: "UNTRUSTED_CERTIFICATE", detail: message };
    if (code === "PLT_KFK_AUTHENTICATION" || name === "KafkaJSSASLAuthenticationError")
      return { name: "SASL_AUTHENTICATION_FAILED", detail: message };
  }
  return null;
}

/**
 * The line for whoever can fix it, if brokers reject this client, or don't let it do what every role has to; null: it
 * is something else.
 */
export function refusalOf(error: unknown): UsageError | null {
  const refusal = connectionRefusal(error);
  if (refusal?.name === "UNTRUSTED_CERTIFICATE")
    return new UsageError(
      "kafka_untrusted",
      `KAFKA_TLS_CA: the brokers' certificate is not trusted: ${refusal.detail}`,
      { cause: error },
    );
  if (refusal !== null)
    return new UsageError(
      "kafka_refused",
      `KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: the brokers do not take this user: ${refusal.detail}`,
      { cause: error },
    );
  for (const { type, topic } of causesOf(error)) {
    if (typeof type !== "string" || !type.endsWith("_AUTHORIZATION_FAILED")) continue;
    const what =
      typeof topic === "string"
        ? `topic ${topic} is missing, or not to be seen by this Kafka user, who may not create it`
        : `this Kafka user may not see or create topics (${type})`;
    return new UsageError("kafka_refused", `${what}: npm run kafka:access lists what each role needs`, {
      cause: error,
    });
  }
  return null;
}

/** An error, its causes, and the errors that it aggregates. */
function* causesOf(error: unknown): Generator<ClientFailure> {
  for (
    let failure = error as ClientFailure | null | undefined, depth = 0;
    typeof failure === "object" && failure !== null && depth < 10;
    failure = failure.cause as ClientFailure, depth++
  ) {
    yield failure;
    if (Array.isArray(failure.errors))
      for (const gathered of failure.errors as unknown[])
        if (gathered !== null && typeof gathered === "object") yield gathered;
  }
}
