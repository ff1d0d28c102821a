import type { BatchProducer } from "../../infra/kafka/batch-producer.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { DeployedModel } from "../../schemas/generated.js";
import { DEPLOYMENT_KEY, deployed, modelRegistered } from "./events.js";
import type { ControlLog } from "./log.js";

/** Who decides, and the producer that publishes the decision. */
export interface Author {
  who: string;
  producer: BatchProducer;
}

/**
 * Registers a model whose artifact is in place.
 *
 * @throws FraudstreamError `conflict` if a model of that id is already registered
 */
export async function registerModel(
  control: ControlLog,
  author: Author,
  model: { model: string; manifestSha256: string; job?: string | null },
): Promise<void> {
  await control.append(author.producer, {
    ...modelRegistered(model.model, model.manifestSha256, model.job ?? null),
    who: author.who,
    base: -1,
  });
}

/**
 * Decides what is in force from now on: champion, shadows and thresholds together.
 *
 * @param base epoch of the deployment that the author knew; the newest if not given
 * @returns the epoch of the new deployment
 * @throws FraudstreamError `unknown_model`, or `conflict` if another decision came first
 */
export async function deploy(
  control: ControlLog,
  author: Author,
  deployment: { champion: DeployedModel | null; shadows: DeployedModel[] },
  base?: number,
): Promise<number> {
  const { champion, shadows } = deployment;
  for (const { model } of [...(champion === null ? [] : [champion]), ...shadows]) {
    if (!control.state.models.has(model))
      throw new FraudstreamError("unknown_model", `no model ${model} is registered`);
  }
  if (base !== undefined && base !== (control.state.deployment?.epoch ?? -1)) {
    throw new FraudstreamError("conflict", "the deployment was changed in the meantime; look at it again and repeat");
  }
  const offset = await control.append(author.producer, {
    ...deployed(champion, shadows),
    who: author.who,
    base: control.state.baseOf(DEPLOYMENT_KEY),
  });
  return control.state.history.findLast((entry) => entry.offset === offset)?.sequence ?? offset;
}
