import { Command } from "commander";
import { UsageError } from "../../schemas/errors.js";
import { allTopics, topicsFor } from "../../schemas/topics.js";
import { configOrExit } from "../lifecycle/config-or-exit.js";
import { runCommand } from "../lifecycle/lifecycle.js";
import { createLogger } from "../logging.js";
import { checkReachable } from "../reachable.js";
import { aclArguments, applyGrants, grantsOf, KAFKA_USERS, type KafkaUser } from "./access.js";
import { createKafka, ensureTopics } from "./client.js";

/**
 * `npm run kafka:access`: prints what each role and each kind of other program may do on Kafka, as commands of
 * `kafka-acls.sh`; with `--apply` it creates the topics and grants all of this, as the Kafka user of the settings, who
 * must be allowed to.
 */
const program = new Command("npm run kafka:access --")
  .description("Lists what each user may do on Kafka, as commands of kafka-acls.sh, or grants it.")
  .option("--apply", "create the topics that are missing and grant all of it, as the Kafka user of KAFKA_SASL_USERNAME")
  .option(
    "--user <kind=name...>",
    `how a user is called on Kafka, where not like its kind: ${KAFKA_USERS.join(", ")}`,
    [],
  )
  .parse();
const { apply = false, user: named } = program.opts<{ apply?: boolean; user: string[] }>();
const config = configOrExit();
await runCommand(createLogger({ logLevel: "warn" }, "kafka-access"), async () => {
  const principals = new Map<KafkaUser, string>(KAFKA_USERS.map((kind) => [kind, kind]));
  for (const pair of named) {
    const [, kind, name] = /^(\w+)=(.+)$/.exec(pair) ?? [];
    if (name === undefined || !principals.has(kind as KafkaUser))
      throw new UsageError("bad_option", `--user ${pair} is not kind=name with a kind of ${KAFKA_USERS.join(", ")}`);
    principals.set(kind as KafkaUser, name);
  }
  const topics = topicsFor(config.topicPrefix, config.topicPartitions);
  const grants = [...principals].flatMap(([kind, principal]) =>
    grantsOf(kind, topics, config.topicPrefix).map((grant) => ({ ...grant, principal })),
  );
  if (!apply) {
    const brokers = config.kafka?.brokers.join(",") ?? "BROKERS";
    for (const grant of grants)
      process.stdout.write(
        `kafka-acls.sh --bootstrap-server ${brokers} --command-config ADMIN.properties ` +
          `${aclArguments(grant.principal, grant).join(" ")}\n`,
      );
    return;
  }
  if (config.kafka === null)
    throw new UsageError("no_kafka", "KAFKA_BROKERS is not set: whom are the users to be granted it by?");
  await checkReachable({ kafka: config.kafka, clickhouse: null });
  const kafka = createKafka(config.kafka, "fraudstream-access", createLogger(config, "kafka-access"));
  await ensureTopics(kafka, allTopics(topics));
  const admin = kafka.admin();
  await admin.connect();
  try {
    await applyGrants(admin, grants);
  } finally {
    await admin.disconnect();
  }
  process.stdout.write(
    `${topics.transactions.name} and ${allTopics(topics).length - 1} more topics are there; ${grants.length} ` +
      `grants for ${[...principals.values()].join(", ")}\n`,
  );
});
