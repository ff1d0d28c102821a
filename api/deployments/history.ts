import type { ControlState } from "../../models/control/state.js";
import { deployedIn, type Decision, type ModelRole } from "./decide.js";

/** One thing that was done to a model. */
export interface ModelChange {
  action: "registered" | "enabled" | "disabled" | "thresholds";
  at: number;
  who: string;
  /** The deployment that did it; null for the registration. */
  epoch: number | null;
  /** What the model is from then on. */
  role: ModelRole | null;
  review: number | null;
  decline: number | null;
  /** The training job that made it. */
  job: string | null;
}

/**
 * Who did what to a model and when, oldest first: its registration, and each deployment that changed something about
 * it.
 */
export function historyOf({ modelHistory }: Pick<ControlState, "modelHistory">, model: string): ModelChange[] {
  const changes: ModelChange[] = [];
  let before: Decision = { champion: null, shadows: [] };
  for (const { sequence, at, who, registration, deployment: after } of modelHistory) {
    if (registration?.model === model) {
      changes.push({
        action: "registered",
        at,
        who,
        epoch: null,
        role: null,
        review: null,
        decline: null,
        job: registration.job,
      });
    }
    if (after === null) continue;
    const [was, is] = [standing(before, model), standing(after, model)];
    before = after;
    if (was.role === is.role && was.review === is.review && was.decline === is.decline) continue;
    const action = is.role === null ? "disabled" : was.role === is.role ? "thresholds" : "enabled";
    changes.push({ action, at, who, epoch: sequence, ...is, job: null });
  }
  return changes;
}

function standing(decision: Decision, model: string): Pick<ModelChange, "role" | "review" | "decline"> {
  const deployed = deployedIn(decision, model);
  if (deployed === null) return { role: null, review: null, decline: null };
  return {
    role: decision.champion?.model === model ? "champion" : "shadow",
    review: deployed.review,
    decline: deployed.decline,
  };
}
