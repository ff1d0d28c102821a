import type { Admin, AclEntry } from "kafkajs";
import { allTopics, type Topics } from "../../schemas/topics.js";
import { kafkajs } from "./kafkajs.js";

const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs;

/** Who speaks to Kafka: our roles, and three kinds of others. */
export const KAFKA_USERS = [
  "scoring",
  "sink",
  "merchants",
  "training",
  "api",
  "publisher",
  "labeller",
  "reader",
] as const;
export type KafkaUser = (typeof KAFKA_USERS)[number];

/** Something that a user may do. READ and WRITE include DESCRIBE: to see that a thing is there, and where. */
export interface Grant {
  operation: "READ" | "WRITE" | "DESCRIBE";
  resource: "topic" | "group" | "transactional-id";
  name: string;
  /** Also all whose names begin with `name`. */
  prefixed?: true;
}

type TopicKey = keyof Topics;

/** The topics that each user reads and writes, and nothing else that Kafka would have to allow them. */
const TOPICS: Readonly<Record<KafkaUser, { read: readonly TopicKey[]; write: readonly TopicKey[] }>> = {
  // Sends a transaction on that stands in another partition than its card's; reads what was refused when it folds
  // again, and both when Kafka has forgotten where it stood.
  scoring: {
    read: ["transactions", "merchantBuckets", "control", "deadLetters", "predictions"],
    write: ["predictions", "shadowPredictions", "deadLetters", "transactions", "workers"],
  },
  // Labels that can't be stored become dead letters.
  sink: {
    read: ["transactions", "predictions", "shadowPredictions", "labels", "deadLetters", "control"],
    write: ["deadLetters"],
  },
  // Sends a label on that stands in another partition than its card's.
  merchants: { read: ["transactions", "labels", "merchantBuckets"], write: ["merchantBuckets", "labels"] },
  training: { read: ["control", "workers"], write: ["control", "workers"] },
  // Publishes what comes over HTTP, waits for its outcome, sends dead letters again to where they came from, and tells
  // other copies which sign-ins are locked.
  api: {
    read: ["control", "users", "workers", "predictions", "deadLetters"],
    write: ["control", "users", "transactions", "labels", "workers"],
  },
  publisher: { read: [], write: ["transactions"] },
  labeller: { read: [], write: ["labels"] },
  reader: { read: ["predictions"], write: [] },
};

/** The consumer group that a role is a member of, and under which transactional ids it produces, behind the prefix. */
const GROUPS: Readonly<Partial<Record<KafkaUser, string>>> = {
  scoring: "scoring",
  sink: "sink",
  merchants: "merchants",
};
const TRANSACTIONAL: Readonly<Partial<Record<KafkaUser, { name: string; prefixed?: true }>>> = {
  scoring: { name: "scoring-", prefixed: true },
  merchants: { name: "merchants-", prefixed: true },
  api: { name: "replay" },
};
const ROLES = new Set<KafkaUser>(["scoring", "sink", "merchants", "training", "api"]);
/** A reader's consumer groups begin with this, behind the topic prefix. */
const READERS = "reader-";

/**
 * All that a user needs of Kafka, and no more: the one place from which SECURITY.md, the command and the tests take it.
 */
export function grantsOf(user: KafkaUser, topics: Topics, prefix: string): Grant[] {
  const { read, write } = TOPICS[user];
  const grants: Grant[] = [
    ...read.map((topic) => ({ operation: "READ" as const, resource: "topic" as const, name: topics[topic].name })),
    ...write.map((topic) => ({ operation: "WRITE" as const, resource: "topic" as const, name: topics[topic].name })),
  ];
  // Every role looks at its start whether all topics are there, with their partitions.
  const seen = new Set(grants.map(({ name }) => name));
  if (ROLES.has(user))
    for (const { name } of allTopics(topics))
      if (!seen.has(name)) grants.push({ operation: "DESCRIBE", resource: "topic", name });
  const group = GROUPS[user];
  if (group !== undefined) grants.push({ operation: "READ", resource: "group", name: `${prefix}${group}` });
  if (user === "reader")
    grants.push({ operation: "READ", resource: "group", name: `${prefix}${READERS}`, prefixed: true });
  // What /metrics tells of lag.
  if (user === "api")
    for (const watched of ["scoring", "sink"])
      grants.push({ operation: "DESCRIBE", resource: "group", name: `${prefix}${watched}` });
  const transactional = TRANSACTIONAL[user];
  if (transactional !== undefined)
    grants.push({
      operation: "WRITE",
      resource: "transactional-id",
      ...transactional,
      name: `${prefix}${transactional.name}`,
    });
  return grants;
}

/** The grants as arguments of Kafka's own `kafka-acls.sh`. */
export function aclArguments(principal: string, { operation, resource, name, prefixed }: Grant): string[] {
  return [
    "--add",
    "--allow-principal",
    `User:${principal}`,
    "--operation",
    operation.charAt(0) + operation.slice(1).toLowerCase(),
    `--${resource}`,
    name,
    ...(prefixed ? ["--resource-pattern-type", "prefixed"] : []),
  ];
}

/** Has the brokers allow users what they need. Needs ALTER on the cluster. */
export async function applyGrants(admin: Admin, grants: readonly (Grant & { principal: string })[]): Promise<void> {
  const resourceTypes = {
    topic: AclResourceTypes.TOPIC,
    group: AclResourceTypes.GROUP,
    "transactional-id": AclResourceTypes.TRANSACTIONAL_ID,
  };
  const acl = grants.map(({ principal, operation, resource, name, prefixed }): AclEntry => ({
    principal: `User:${principal}`,
    host: "*",
    permissionType: AclPermissionTypes.ALLOW,
    operation: AclOperationTypes[operation],
    resourceType: resourceTypes[resource],
    resourceName: name,
    resourcePatternType: prefixed ? ResourcePatternTypes.PREFIXED : ResourcePatternTypes.LITERAL,
  }));
  await admin.createAcls({ acl });
}
