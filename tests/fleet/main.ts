/**
 * Three brokers, of which one hangs or is killed, under every role: `npm run test:fleet -- --help`. See README.md
 * beside this file.
 */
import { appendFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import { readConfig } from "../../infra/config/config.js";
import { kafkajs } from "../../infra/kafka/kafkajs.js";
import { runCommand } from "../../infra/lifecycle/lifecycle.js";
import { createLogger } from "../../infra/logging.js";
import { packageRoot } from "../../infra/package-root.js";
import { allTopics } from "../../schemas/topics.js";
import { UsageError } from "../../schemas/errors.js";
import { kafkaJs } from "../support/workers-kafkajs.js";
import type { Finding } from "./finding.js";
import { Fleet } from "./fleet.js";
import { freeze } from "./freeze.js";
import { STOPS, stopWhile, type Stop } from "./stops.js";

interface Options {
  freeze: string;
  seconds: string;
  stops: string;
  results?: string;
  keep: boolean;
}

const command = new Command("npm run test:fleet --")
  .description(
    "Freezes and kills one of three Kafka brokers, and measures how long nothing is scored and how long " +
      "roles take to stop.",
  )
  .option("--freeze <brokers>", "which are frozen, one after the other: numbers of KAFKA_BROKERS, or none", "1,2,3")
  .option("--seconds <number>", "for how long", "60")
  .option(
    "--stops <list>",
    `how brokers are while all roles are told to stop: ${STOPS.join(", ")}, or none`,
    STOPS.join(),
  )
  .option("--results <file>", "one JSON line a scenario is appended to it")
  .option("--keep", "leave logs and data where they are", false);
command.parse();
const options = command.opts<Options>();
const listed = (text: string): string[] => (text === "none" ? [] : text.split(","));

const started = Date.now();
const say = (line: string): void =>
  void process.stdout.write(`${((Date.now() - started) / 1_000).toFixed(0).padStart(5)} s  ${line}\n`);

await runCommand(createLogger({ logLevel: "warn" }, "fleet"), async (lifecycle) => {
  const brokers = listed(options.freeze).map(Number);
  const stops = listed(options.stops) as Stop[];
  const seconds = Number(options.seconds);
  if (
    !brokers.every((broker) => [1, 2, 3].includes(broker)) ||
    !stops.every((stop) => STOPS.includes(stop)) ||
    !(seconds > 0)
  )
    throw new UsageError("bad_option", command.helpInformation());
  const folder = await mkdtemp(join(tmpdir(), "fraudstream-fleet-"));
  lifecycle.add("data", () =>
    options.keep ? say(`logs and data stay in ${folder}`) : rm(folder, { recursive: true, force: true }),
  );
  const fleet = await Fleet.start(folder, readConfig().cacheDir);
  lifecycle.add("fleet", () => fleet.stop());
  say(`three brokers: ${fleet.brokers.addresses.join(", ")}; logs in ${folder}`);
  await fleet.startRoles();
  say("all roles are ready");

  const wrong: string[] = [];
  const report = ({ scenario, figures, wrong: of }: Finding): void => {
    const line = JSON.stringify({
      scenario,
      started: new Date().toISOString(),
      cores: cpus().length,
      load_average: loadavg().map((load) => Number(load.toFixed(1))),
      ...figures,
      wrong: of,
    });
    say(line);
    if (options.results !== undefined) appendFileSync(join(packageRoot(), options.results), `${line}\n`);
    wrong.push(...of.map((what) => `${scenario}: ${what}`));
  };
  report(await copiesOfTopics(fleet));
  for (const broker of brokers) {
    if (lifecycle.signal.aborted) return;
    report(await freeze(fleet, broker, seconds, { say, signal: lifecycle.signal }));
  }
  for (const stop of stops) {
    if (lifecycle.signal.aborted) return;
    await fleet.startRoles();
    await sleep(2_000);
    report(await stopWhile(fleet, stop, { say }));
  }
  for (const line of wrong) say(`WRONG: ${line}`);
  say(wrong.length === 0 ? "fleet: held" : "fleet: FAILED");
  if (wrong.length > 0) process.exitCode = 1;
});

/** Topics that the roles made on three brokers have three copies, two of which must have a record. */
async function copiesOfTopics(fleet: Fleet): Promise<Finding> {
  const admin = kafkaJs(fleet.system.kafka).admin();
  await admin.connect();
  const names = allTopics(fleet.system.topics).map(({ name }) => name);
  const { topics } = await admin.fetchTopicMetadata({ topics: names });
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: names.map((name) => ({
      type: kafkajs.ConfigResourceTypes.TOPIC,
      name,
      configNames: ["min.insync.replicas"],
    })),
  });
  await admin.disconnect();
  const copies = Object.fromEntries(
    topics.map(({ name, partitions }) => [name, Math.min(...partitions.map(({ replicas }) => replicas.length))]),
  );
  const minInsync = Object.fromEntries(
    resources.map(({ resourceName, configEntries }) => [resourceName, Number(configEntries[0].configValue)]),
  );
  const bad = names.filter((name) => copies[name] !== 3 || minInsync[name] !== 2);
  const wrong = bad.map((name) => `${name} has ${copies[name]} copies, min.insync.replicas ${minInsync[name]}`);
  return {
    scenario: "topics",
    figures: {
      topics: names.length,
      copies: [...new Set(Object.values(copies))],
      min_insync: [...new Set(Object.values(minInsync))],
    },
    wrong,
  };
}
