import type { Admin, AclEntry } from "kafkajs";
import { allTopics, type Topics } from "../../schemas/topics.js";
import { ROLE_NAMES, ROLES, type Role, type RoleSpec } from "../roles.js";
import { kafkajs } from "./kafkajs.js";

const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs;

/** Programs other than our roles that use Kafka, and the topics that they read and write. */
const OTHERS = {
  publisher: { reads: [], writes: ["transactions"] },
  labeller: { reads: [], writes: ["labels"] },
  reader: { reads: ["predictions"], writes: [] },
} as const;

/** Who uses Kafka: our roles, and three kinds of other programs. */
export type KafkaUser = Role | keyof typeof OTHERS;
export const KAFKA_USERS = [...ROLE_NAMES, ...(Object.keys(OTHERS) as (keyof typeof OTHERS)[])] as const;

/** A permission of a user. READ and WRITE include DESCRIBE: to see that something exists, and where. */
export interface Grant {
  operation: "READ" | "WRITE" | "DESCRIBE";
  resource: "topic" | "group" | "transactional-id";
  name: string;
  /** Also applies to all whose names begin with `name`. */
  prefixed?: true;
}

/** A reader's consumer groups begin with this, after the topic prefix. */
const READERS = "reader-";

/** Everything that a user needs on Kafka, and no more: SECURITY.md, the command and the tests all take it from here. */
export function grantsOf(user: KafkaUser, topics: Topics, prefix: string): Grant[] {
  const role: RoleSpec | null = user in ROLES ? ROLES[user as Role] : null;
  const { reads, writes } = role ?? OTHERS[user as keyof typeof OTHERS];
  const grants: Grant[] = [
    ...reads.map((topic) => ({ operation: "READ" as const, resource: "topic" as const, name: topics[topic].name })),
    ...writes.map((topic) => ({ operation: "WRITE" as const, resource: "topic" as const, name: topics[topic].name })),
  ];
  if (user === "reader")
    grants.push({ operation: "READ", resource: "group", name: `${prefix}${READERS}`, prefixed: true });
  return role === null ? grants : [...grants, ...furtherGrants(role, grants, topics, prefix)];
}

/** What a role needs besides the topics that it reads and writes. */
function furtherGrants(
  { group, watches, transactional }: RoleSpec,
  granted: readonly Grant[],
  topics: Topics,
  prefix: string,
): Grant[] {
  const grants: Grant[] = [];
  // At its start every role checks that all topics exist, with their partitions.
  const seen = new Set(granted.map(({ name }) => name));
  for (const { name } of allTopics(topics))
    if (!seen.has(name)) grants.push({ operation: "DESCRIBE", resource: "topic", name });
  if (group !== null) grants.push({ operation: "READ", resource: "group", name: `${prefix}${group}` });
  for (const watched of watches) grants.push({ operation: "DESCRIBE", resource: "group", name: `${prefix}${watched}` });
  if (transactional !== null)
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

/** Makes the brokers allow users what they need. Needs ALTER on the cluster. */
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
