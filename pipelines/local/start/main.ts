import { once } from "node:events";
import { readConfig } from "../../../infra/config/config.js";
import { checkDataDir } from "../../../infra/local/data-dir.js";
import { unknownSettings } from "../../../infra/config/unknown-settings.js";
import { runCommand, type Lifecycle } from "../../../infra/lifecycle/lifecycle.js";
import { createLogger, type Logger } from "../../../infra/logging.js";
import { UsageError } from "../../../schemas/errors.js";
import { bringUp, everythingUp, startRoles, type Context, type Roles, type System } from "./bring-up.js";
import { FileServer } from "./file-server.js";
import { trainFirstModel } from "./first-model.js";
import { readStartOptions } from "./options.js";
import { Screen } from "./panel.js";
import { run } from "./run.js";
import { prepareSource, type Source } from "./source.js";
import { ApiDesk, ControlDesk, type TrainingDesk } from "./training-desk.js";

/**
 * `npm start`, in this order:
 *
 * 1. the source of transactions: a file is read, or the simulation is begun or continued;
 * 2. Kafka and ClickHouse, topics and tables;
 * 3. the roles, each a process of its own;
 * 4. a first model, if none is deployed or the source is a file: a training job that the API is asked for;
 * 5. the stream, until it ends or is ended, and the summary, once every transaction has come back and ClickHouse has
 *    caught up;
 * 6. everything is stopped, in reverse order.
 */
async function start(lifecycle: Lifecycle, log: Logger, screen: Screen): Promise<void> {
  const options = readStartOptions(process.argv);
  const config = readConfig();
  for (const line of unknownSettings()) screen.line(line);
  checkDataDir(config.dataDir);
  const { signal } = lifecycle;
  const context: Context = { config, lifecycle, log, screen };

  const source = await prepareSource(options, config, (line) => screen.line(line), signal);
  const system = await bringUp(context);
  const { workers } = await startWithModel(source, context, system, options.yes);

  const running = run(options, source, context, system, workers);
  // Ctrl-C ends the transactions; the rest of the run comes before the roles are stopped.
  lifecycle.add("stream", () => running.catch(() => undefined));
  await running;
  if (!options.once && options.forMs === null && !signal.aborted) {
    screen.line("that was all; the system stays up until Ctrl-C");
    await once(signal, "abort");
  }
}

/** Starts the roles, and has a model trained by them where one is needed. @returns the roles */
async function startWithModel(source: Source, context: Context, system: System, yes: boolean): Promise<Roles> {
  const { lifecycle, screen } = context;
  const { signal } = lifecycle;
  const deployment = system.control.state.deployment;
  const champion = deployment?.champion ?? null;
  const server = await FileServer.listen();
  lifecycle.add("file server", () => server.close());
  if (deployment !== null && champion !== null && !source.alwaysTrain) {
    screen.line(`model ${champion.model} is deployed already`);
    const { file } = await source.trainingFile();
    const roles = await startRoles(context, system, server.address);
    await everythingUp(context, system, roles, { epoch: deployment.epoch, sample: server.offer(file) });
    return roles;
  }
  const roles = await startRoles(context, system, server.address);
  const training = openDesk(roles, system, context).then((desk) =>
    trainFirstModel({ source, desk, server, screen, signal, yes }),
  );
  // Ctrl-C cancels the job while there still is an API to do it.
  lifecycle.add("first training", () =>
    training.then(
      () => undefined,
      () => undefined,
    ),
  );
  await everythingUp(context, system, roles, await training);
  return roles;
}

/** The API, where one can sign in there; or else fraud.control itself. */
async function openDesk(
  { api, workers }: Roles,
  { control, cluster }: System,
  { lifecycle, screen }: Context,
): Promise<TrainingDesk> {
  try {
    if (api.admin !== null) return await ApiDesk.signIn(api.url, api.admin, lifecycle.signal);
    screen.line("users come from JWKS_URL, so the first training is asked for in fraud.control, not over HTTP");
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    screen.line(`the first training is asked for in fraud.control, not over HTTP: ${error.message}`);
  }
  return new ControlDesk({ control, cluster, workers });
}

const log = createLogger({ logLevel: "error" }, "start");
await runCommand(log, (lifecycle) => start(lifecycle, log, new Screen(process.stdout)));
