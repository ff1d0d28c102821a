import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { grantsOf, KAFKA_USERS } from "../../../../infra/kafka/access.js";
import { packageRoot } from "../../../../infra/package-root.js";
import { topicsFor } from "../../../../schemas/topics.js";
import { unwrapped } from "../../../support/markdown.js";

const text = unwrapped(readFileSync(join(packageRoot(), "SECURITY.md"), "utf8"));

test("the tests that it names exist", () => {
  const rows = text.split("\n").filter((line) => line.startsWith("- **API"));
  expect(rows).toHaveLength(10);
  for (const row of rows) {
    const files = [...row.matchAll(/`(tests\/[\w./-]+\.test\.ts)`:((?: "[^"]+"[;.]?)+)/g)];
    expect(files.length, row).toBeGreaterThan(0);
    expect(files.length).toBe(row.split(".test.ts").length - 1);
    for (const [, file, names] of files) {
      // A long title is split over lines.
      const source = readFileSync(join(packageRoot(), file), "utf8")
        .replace(/" \+\s+"/g, "")
        .replace(/\(\s+"/g, '("');
      for (const [, name] of names.matchAll(/"([^"]+)"/g))
        expect(source.includes(`("${name}"`), `${file}: ${name}`).toBe(true);
    }
  }
  for (const [, link] of text.matchAll(/\]\(([^)#:]+)\)/g))
    expect(existsSync(join(packageRoot(), link)), link).toBe(true);
});

test("the Kafka permissions that it lists are those granted", () => {
  const topics = topicsFor("fraud.", 4);
  for (const user of KAFKA_USERS) {
    const grants = grantsOf(user, topics, "fraud.");
    const topicsOf = (operation: string): string =>
      grants
        .filter((grant) => grant.operation === operation && grant.resource === "topic")
        .map(({ name }) => name.replace("fraud.", ""))
        .join(", ") || "nothing";
    const others = (resource: string): string =>
      grants
        .filter((grant) => grant.operation !== "DESCRIBE" && grant.resource === resource)
        .map(({ name, prefixed }) => `\`${name}${prefixed ? "*" : ""}\``)
        .join(", ") || "none";
    expect(text).toContain(
      `\n- **${user}**: _reads:_ ${topicsOf("READ")}; _writes:_ ${topicsOf("WRITE")}; _group:_ ${others("group")}; ` +
        `_transactional ids:_ ${others("transactional-id")}\n`,
    );
  }
});
