import { loadArtifact } from "../../models/artifacts.js";
import { slotsOf } from "../../models/features/plan.js";
import type { ControlLog } from "../../models/control/log.js";
import type { Config } from "../../infra/config/config.js";

export interface FieldError {
  field: string;
  message: string;
}
type AttributeValue = number | string | boolean;
type AttributeType = "number" | "boolean" | "string" | "number or a string";

/** What the deployed models take as attributes, so that a request can be told before it is published. */
export class DeployedFeatures {
  readonly #control: ControlLog;
  readonly #artifactsDir: string;
  #epoch = -1;
  #types = new Map<string, AttributeType>();

  constructor(control: ControlLog, config: Pick<Config, "artifacts">) {
    this.#control = control;
    this.#artifactsDir = config.artifacts;
  }

  /** Whether a champion is deployed. */
  get ready(): boolean {
    return this.#control.state.deployment?.champion != null;
  }

  /** The attributes of a transaction that no deployed model could take, each with the type that is wanted. */
  async check(attributes: Record<string, AttributeValue>, path: string): Promise<FieldError[]> {
    const types = await this.#attributeTypes();
    const errors: FieldError[] = [];
    for (const [name, value] of Object.entries(attributes)) {
      const wanted = types.get(name);
      if (wanted !== undefined && !wanted.split(" or a ").includes(typeof value))
        errors.push({
          field: `${path}attributes.${name}`,
          message: `must be a ${wanted}: the deployed model takes it as one`,
        });
    }
    return errors;
  }

  async #attributeTypes(): Promise<Map<string, AttributeType>> {
    const { deployment, models } = this.#control.state;
    if (deployment === null || deployment.epoch === this.#epoch) return this.#types;
    const types = new Map<string, AttributeType>();
    for (const deployed of [...(deployment.champion === null ? [] : [deployment.champion]), ...deployment.shadows]) {
      // A model whose artifact can't be read is the workers' to report; the champion's word counts first.
      const artifact = await loadArtifact(
        this.#artifactsDir,
        deployed.model,
        models.get(deployed.model)?.manifestSha256,
      ).catch(() => null);
      for (const { attribute, type, equals, field } of slotsOf([artifact?.manifest.features ?? []])) {
        if (field === true || types.has(attribute)) continue;
        types.set(attribute, equals !== undefined ? "string" : type === "time" ? "number or a string" : type);
      }
    }
    this.#epoch = deployment.epoch;
    this.#types = types;
    return types;
  }
}
