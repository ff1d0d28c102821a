import type { ControlState, Deployment } from "../../models/control/state.js";
import type { DeployedModel } from "../../schemas/generated.js";
import { HttpProblem } from "../plugins/errors.js";

export type ModelRole = "champion" | "shadow";
export interface Thresholds {
  review: number;
  decline: number;
}
/** What is to be in force. */
export type Decision = Pick<Deployment, "champion" | "shadows">;

/** What a model is at present; null: it isn't enabled. */
export function roleOf(deployment: Deployment | null, model: string): ModelRole | null {
  if (deployment?.champion?.model === model) return "champion";
  return deployment?.shadows.some((shadow) => shadow.model === model) === true ? "shadow" : null;
}

/** The thresholds that a model had when it was last enabled; null: it never was. */
export function lastThresholds({ deployments }: ControlState, model: string): Thresholds | null {
  for (let i = deployments.length - 1; i >= 0; i--) {
    const found = deployedIn(deployments[i], model);
    if (found !== null) return { review: found.review, decline: found.decline };
  }
  return null;
}

/**
 * The deployment in which a model has a role: a new champion replaces the old one and is no longer a shadow; a shadow
 * joins the others.
 *
 * @returns null when it is so already
 * @throws HttpProblem `is_champion` for a champion that would leave none, `no_champion` for a shadow of nobody
 */
export function enabled(deployment: Deployment | null, model: DeployedModel, role: ModelRole): Decision | null {
  const present = roleOf(deployment, model.model);
  if (present === role) return null;
  const others = without(deployment?.shadows ?? [], model.model);
  if (role === "champion") return { champion: model, shadows: others };
  if (present === "champion")
    throw new HttpProblem("is_champion", `${model.model} is the champion: enable another one as champion first`);
  const champion = deployment?.champion ?? null;
  if (champion === null)
    throw new HttpProblem("no_champion", "a shadow scores what a champion scores: enable a champion first");
  return { champion, shadows: [...others, model] };
}

/**
 * The deployment in which a model has no role, or no longer the one that is named. Without a champion nothing is
 * scored.
 *
 * @returns null when it is so already
 */
export function disabled(deployment: Deployment | null, model: string, role?: ModelRole): Decision | null {
  const present = roleOf(deployment, model);
  if (deployment === null || present === null || (role !== undefined && role !== present)) return null;
  return present === "champion"
    ? { champion: null, shadows: deployment.shadows }
    : { champion: deployment.champion, shadows: without(deployment.shadows, model) };
}

/**
 * The deployment in which an enabled model has these thresholds.
 *
 * @returns null when it is so already
 * @throws HttpProblem `not_enabled`
 */
export function withThresholds(
  deployment: Deployment | null,
  model: string,
  { review, decline }: Thresholds,
): Decision | null {
  const present = deployment === null ? null : deployedIn(deployment, model);
  if (deployment === null || present === null)
    throw new HttpProblem("not_enabled", `${model} is not enabled: thresholds belong to a deployment`);
  if (present.review === review && present.decline === decline) return null;
  const changed = (deployed: DeployedModel): DeployedModel =>
    deployed.model === model ? { model, review, decline } : deployed;
  return {
    champion: deployment.champion === null ? null : changed(deployment.champion),
    shadows: deployment.shadows.map(changed),
  };
}

/** A decision that has a champion. */
export type ChampionDecision = Decision & { champion: DeployedModel };

/**
 * The deployment that an undo brings back.
 *
 * @param to its epoch; without it, the one before `deployment`
 * @throws HttpProblem `nothing_to_undo`, `no_champion` where nothing would be scored, 404 `unknown_deployment`
 */
export function undone(
  { deployments, deployment: newest }: ControlState,
  to?: number,
  deployment: Deployment | null = newest,
): { decision: ChampionDecision; restored: number } {
  const at =
    to === undefined
      ? deployments.findIndex(({ epoch }) => epoch === deployment?.epoch) - 1
      : deployments.findIndex(({ epoch }) => epoch === to);
  if (at < 0 && to !== undefined)
    throw new HttpProblem("unknown_deployment", `there was no deployment with epoch ${to}`);
  if (at < 0) throw new HttpProblem("nothing_to_undo", "there is no earlier deployment");
  const { epoch, champion, shadows } = deployments[at];
  if (champion === null)
    throw new HttpProblem(
      "no_champion",
      `the deployment of epoch ${epoch} had no champion: nothing would be scored. Name another epoch in ` +
        `"to", or disable the champion if that is meant`,
    );
  return { decision: { champion, shadows }, restored: epoch };
}

export function deployedIn({ champion, shadows }: Decision, model: string): DeployedModel | null {
  return [...(champion === null ? [] : [champion]), ...shadows].find((deployed) => deployed.model === model) ?? null;
}

function without(shadows: readonly DeployedModel[], model: string): DeployedModel[] {
  return shadows.filter((shadow) => shadow.model !== model);
}
