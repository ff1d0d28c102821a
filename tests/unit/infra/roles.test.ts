import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../../infra/package-root.js";
import { ROLES, ROLE_NAMES } from "../../../infra/roles.js";

const read = (path: string): string => readFileSync(join(packageRoot(), path), "utf8");

test("each role's entry point exists, and docker-compose.yml starts it under the role's name", () => {
  const services = read("docker-compose.yml").split(/^  (?=[\w-]+:$)/m);
  for (const role of ROLE_NAMES) {
    const { module, hasMetricsPort } = ROLES[role];
    expect(existsSync(join(packageRoot(), `${module}.ts`)), role).toBe(true);
    const service = services.find((text) => text.startsWith(`${role}:\n`)) ?? "";
    expect(service).toContain(`command: [node, dist/${module}.js]\n`);
    // What has no API answers probes on the port of its metrics.
    expect(service.includes("<<: *worker\n"), role).toBe(hasMetricsPort);
  }
});

test("no two roles share a group or a transactional id", () => {
  const groups = ROLE_NAMES.flatMap((role) => ROLES[role].group ?? []);
  expect(new Set(groups).size).toBe(groups.length);
  const ids = ROLE_NAMES.flatMap((role) => ROLES[role].transactional?.name ?? []);
  for (const id of ids) expect(ids.filter((other) => other.startsWith(id))).toEqual([id]);
});
