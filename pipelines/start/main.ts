import { once } from "node:events";
import { readConfig } from "../../infra/config.js";
import { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { runCommand, type Lifecycle } from "../../infra/lifecycle/lifecycle.js";
import { createLogger, type Logger } from "../../infra/logging.js";
import { bringUp, startRoles, type Context, type System } from "./bring-up.js";
import { trainAndDeploy } from "./first-model.js";
import { readStartOptions } from "./options.js";
import { Screen } from "./panel.js";
import { run } from "./run.js";
import { prepareSource, type Source } from "./source.js";

/**
 * `npm start`, in this order:
 *
 * 1. the source of transactions: a file is read, or the simulation is begun or continued;
 * 2. Kafka and ClickHouse, topics and tables;
 * 3. a first model, if none is deployed or the source is a file;
 * 4. the roles, each a process of its own;
 * 5. the stream, until it ends or is ended, and the summary, once every transaction has come back and ClickHouse has
 *    caught up;
 * 6. everything is stopped, in reverse order.
 */
async function start(lifecycle: Lifecycle, log: Logger, screen: Screen): Promise<void> {
  const options = readStartOptions(process.argv);
  const config = readConfig();
  const { signal } = lifecycle;
  const context: Context = { config, lifecycle, log, screen };

  const source = await prepareSource(options, config.dataDir, (line) => screen.line(line), signal);
  const system = await bringUp(context);
  await ensureModel(source, context, system);
  await startRoles(context, system);

  const running = run(options, source, context, system);
  // Ctrl-C ends the transactions; the rest of the run comes before the roles are stopped.
  lifecycle.add("stream", () => running.catch(() => undefined));
  await running;
  if (!options.once && options.forMs === null && !signal.aborted) {
    screen.line("that was all; the system stays up until Ctrl-C");
    await once(signal, "abort");
  }
}

async function ensureModel(source: Source, { config, lifecycle, screen }: Context, { cluster, control }: System): Promise<void> {
  const champion = control.state.deployment?.champion ?? null;
  if (champion !== null && !source.alwaysTrain) return screen.line(`model ${champion.model} is deployed already`);
  const producer = await BatchProducer.open(cluster);
  try {
    await trainAndDeploy({
      name: source.modelName,
      dataset: source.trainingData(),
      artifactsDir: config.artifacts,
      control,
      author: { who: "system:start", producer },
      progress: (line) => screen.line(line),
      status: (text) => screen.status(text),
      signal: lifecycle.signal,
    });
  } finally {
    await producer.close();
  }
}

const log = createLogger({ logLevel: "error" }, "start");
await runCommand(log, (lifecycle) => start(lifecycle, log, new Screen(process.stdout)));
