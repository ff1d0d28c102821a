import type { Conditions } from "../../infra/health/conditions.js";
import type { Unreadable } from "../../schemas/transaction-reader.js";
import type { SchemaKey } from "../../schemas/wire-format.js";

const CODE = "attribute_unreadable";

/**
 * Reports the writer schemas whose records have a value that the deployed models can't read, for as long as it lasts.
 */
export class UnreadableAttributes {
  readonly #conditions: Conditions;
  readonly #messages = new Map<SchemaKey, string>();
  #epoch = -1;

  constructor(conditions: Conditions) {
    this.#conditions = conditions;
  }

  /** One line for each schema, for the worker's heartbeat. */
  get problems(): string[] {
    return [...this.#messages.values()];
  }

  /** To be called with every schema that is learnt, under the deployment whose models ask for attributes. */
  learnt(epoch: number, schema: SchemaKey, unreadable: readonly Unreadable[]): void {
    if (epoch < this.#epoch) return;
    if (epoch > this.#epoch) {
      for (const former of this.#messages.keys()) this.#conditions.clear(CODE, subjectOf(former));
      this.#messages.clear();
      this.#epoch = epoch;
    }
    if (unreadable.length === 0) return;
    const message = messageOf(schema, unreadable);
    this.#messages.set(schema, message);
    this.#conditions.raise(CODE, subjectOf(schema), message, { blocking: false });
  }
}

function messageOf(schema: SchemaKey, unreadable: readonly Unreadable[]): string {
  const listed = (of: readonly Unreadable[]): string =>
    of.map(({ attribute, type }) => `${JSON.stringify(attribute)} (${type})`).join(", ");
  const [attributes, fields] = [
    unreadable.filter(({ ofOurs }) => ofOurs !== true),
    unreadable.filter(({ ofOurs }) => ofOurs === true),
  ];
  const messages = [];
  if (attributes.length > 0) {
    messages.push(
      `schema ${schema} has attributes that the deployed models ask for and that can't be read, so they ` +
        "count as absent: " +
        `${listed(attributes)}; producers can write them as a number, string, boolean, enum or decimal`,
    );
  }
  if (fields.length > 0) {
    messages.push(
      `schema ${schema} lacks fields that TRANSACTIONS_FIELDS names, so what has our own name is read instead: ` +
        `${listed(fields)}; correct the setting`,
    );
  }
  return messages.join("; ");
}

function subjectOf(schema: SchemaKey): string {
  return `schema ${schema}`;
}
