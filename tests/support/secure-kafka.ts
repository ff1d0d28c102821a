import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { KafkaConfig } from "../../infra/config/config.js";
import { KafkaCluster } from "../../infra/kafka/cluster.js";
import { EngineProcess } from "../../infra/local/engine-process.js";
import { canRunJava, newClusterId } from "../../infra/local/kafka-java.js";
import { fetchKafkaJars } from "../../infra/local/kafka-jars.js";
import { brokerProperties } from "../../infra/local/kafka-properties.js";
import { freePorts } from "../../infra/local/ports.js";

/** The one who may do all. */
export const BROKER = "broker";
const START_MS = 90_000;

/** A broker as SECURITY.md asks for one: TLS, SCRAM-SHA-512, and nothing allowed to anybody without an ACL. */
export interface SecureKafka {
  address: string;
  /** How a user connects. */
  as(user: string): KafkaConfig;
  /** The same, as the settings of a process: secrets in files. */
  settingsOf(user: string): Record<string, string>;
  stop(): Promise<void>;
}

/** Why there can be none here; null: there can. */
export async function noSecureKafka(cacheDir: string): Promise<string | null> {
  if (!(await canRunJava(cacheDir))) return "there is no Java 17 with Maven";
  try {
    return /OpenSSL (\d+)/.test(execFileSync("openssl", ["version"], { encoding: "utf8" }))
      ? null
      : "openssl is not OpenSSL";
  } catch {
    return "there is no openssl";
  }
}

export async function startSecureKafka(cacheDir: string, users: readonly string[]): Promise<SecureKafka> {
  const jars = await fetchKafkaJars(cacheDir, () => {});
  const folder = mkdtempSync(join(tmpdir(), "fraudstream-secure-kafka-"));
  const file = (name: string): string => join(folder, name);
  makeCertificates(folder);
  const passwords = new Map([BROKER, ...users].map((user) => [user, randomBytes(12).toString("hex")]));
  mkdirSync(file("passwords"));
  for (const [user, password] of passwords) writeFileSync(file(`passwords/${user}`), `${password}\n`, { mode: 0o600 });

  // Away from where others look first.
  const port = await freePorts(29_092 + 2 * Math.floor(Math.random() * 1_000), 2);
  const address = `127.0.0.1:${port}`;
  const place = { bind: "127.0.0.1", port, controllerPort: port + 1, advertised: address, logDir: file("data") };
  const secured = {
    listeners: `SASL_SSL://${address},CONTROLLER://127.0.0.1:${port + 1}`,
    "advertised.listeners": `SASL_SSL://${address}`,
    "inter.broker.listener.name": "SASL_SSL",
    // SCRAM needs the controller to be there already, so that one knows its peers by their certificates.
    "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:SSL",
    "listener.name.controller.ssl.client.auth": "required",
    "sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
    "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config":
      `org.apache.kafka.common.security.scram.ScramLoginModule required username="${BROKER}" ` +
      `password="${passwords.get(BROKER)}";`,
    "ssl.keystore.type": "PEM",
    "ssl.keystore.location": file("broker.pem"),
    "ssl.truststore.type": "PEM",
    "ssl.truststore.location": file("ca.pem"),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "false",
    "super.users": `User:${BROKER};User:CN=${BROKER}`,
  };
  // Of a property that stands twice, the later one counts.
  writeFileSync(
    file("server.properties"),
    brokerProperties(place) +
      Object.entries(secured)
        .map(([name, value]) => `${name}=${value}\n`)
        .join(""),
    { mode: 0o600 },
  );
  const scram = [...passwords].flatMap(([user, password]) => [
    "--add-scram",
    `SCRAM-SHA-512=[name=${user},password=${password}]`,
  ]);
  execFileSync(
    "java",
    [
      "-XX:TieredStopAtLevel=1",
      "-cp",
      join(jars, "*"),
      "kafka.tools.StorageTool",
      "format",
      "-t",
      newClusterId(),
      "-c",
      file("server.properties"),
      ...scram,
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  const java = [
    "-Xms256m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-cp",
    join(jars, "*"),
    "kafka.Kafka",
    file("server.properties"),
  ];
  const engine = await EngineProcess.start({
    name: "Apache Kafka",
    module: "infra/local/guard",
    args: ["-", "java", ...java],
    logFile: file("kafka.log"),
  });

  const ca = readFileSync(file("ca.pem"), "utf8");
  const as = (user: string): KafkaConfig => ({
    brokers: [address],
    ssl: { ca },
    sasl: { mechanism: "scram-sha-512", username: user, password: passwords.get(user) ?? "" },
  });
  const stop = async (): Promise<void> => {
    await engine.stop(10_000);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await engine.orFail(answers(as(BROKER)), START_MS);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    address,
    as,
    stop,
    settingsOf: (user) => ({
      KAFKA_BROKERS: address,
      KAFKA_TLS_CA_FILE: file("ca.pem"),
      KAFKA_SASL_USERNAME: user,
      KAFKA_SASL_PASSWORD_FILE: file(`passwords/${user}`),
    }),
  };
}

/** An authority of the test's own, and a certificate that it gave the broker, for this address. */
function makeCertificates(folder: string): void {
  const openssl = (...args: string[]): void =>
    void execFileSync("openssl", args, { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  const fresh = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  openssl(...fresh, "-subj", "/CN=authority of a test", "-keyout", "ca.key", "-out", "ca.pem");
  openssl(
    ...fresh,
    "-CA",
    "ca.pem",
    "-CAkey",
    "ca.key",
    "-subj",
    `/CN=${BROKER}`,
    "-addext",
    "subjectAltName=IP:127.0.0.1",
    "-addext",
    "basicConstraints=CA:FALSE",
    "-keyout",
    "broker.key",
    "-out",
    "broker.crt",
  );
  writeFileSync(
    join(folder, "broker.pem"),
    readFileSync(join(folder, "broker.key"), "utf8") + readFileSync(join(folder, "broker.crt"), "utf8"),
    { mode: 0o600 },
  );
}

async function answers(config: KafkaConfig): Promise<void> {
  for (;;) {
    const cluster = new KafkaCluster(config, "answers");
    try {
      await cluster.anyBroker();
      return;
    } catch {
      await sleep(200);
    } finally {
      await cluster.close();
    }
  }
}
