import { messageOf } from "../../schemas/errors.js";
import type { SchemaKey } from "../../schemas/wire-format.js";
import type { Conditions } from "../health/conditions.js";
import type { RegistryClient } from "./registry-client.js";

const CODE = "schema_registry";
/** How long an answer counts. */
const TRUSTED_FOR_MS = 1_000;
const ASK_EVERY_MS = 5_000;

/**
 * Tells a registry that is away, or refuses this role, from one that only has trouble with a single schema. Raises a
 * condition while that lasts.
 */
export class RegistryHealth {
  readonly #registry: Pick<RegistryClient, "probe">;
  readonly #conditions: Conditions | undefined;
  #known: SchemaKey | null = null;
  #asking: Promise<boolean> | null = null;
  #answeredAt = -Infinity;
  #timer: NodeJS.Timeout | null = null;

  constructor(registry: Pick<RegistryClient, "probe">, conditions?: Conditions) {
    this.#registry = registry;
    this.#conditions = conditions;
  }

  /** Notes a schema that the registry has given: it can be asked for again. */
  gave(key: SchemaKey): void {
    this.#known = key;
  }

  /** Whether the registry answers now: if so, what it didn't give is a problem of that one schema. */
  async answers(): Promise<boolean> {
    if (performance.now() - this.#answeredAt < TRUSTED_FOR_MS) return true;
    this.#asking ??= this.#ask().finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #ask(): Promise<boolean> {
    try {
      await this.#registry.probe(this.#known);
      this.#answeredAt = performance.now();
      this.#conditions?.clear(CODE, "");
      return true;
    } catch (error) {
      const message =
        `${messageOf(error)}; records of schemas that aren't known yet wait until the registry of ` +
        "SCHEMA_REGISTRY_URL answers";
      this.#conditions?.raise(CODE, "", message, { blocking: false });
      this.#askAgain();
      return false;
    }
  }

  /** The caller may have moved to another worker since: the condition must end without it. */
  #askAgain(): void {
    if (this.#timer !== null || this.#conditions === undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.answers();
    }, ASK_EVERY_MS).unref();
  }
}
