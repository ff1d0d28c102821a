import type { TextPart } from "./text-parts.js";

/** The largest magnitude that a feature, a float32, can hold. */
export const LARGEST_FLOAT32 = 3.4028234663852886e38;

/**
 * What a column of values holds that is read from transactions: a number, a boolean as 0 and 1, a date as epoch
 * milliseconds (`time`), or whether a text, or a part of it, equals a value.
 */
export interface AttributeSlot {
  attribute: string;
  type: "number" | "boolean" | "time";
  equals?: string;
  /** `equals` is that of this part of the text. */
  part?: TextPart;
  /** The text is the transaction's own field of this name, not an attribute's. */
  field?: true;
}

/** Equal for slots that hold the same. */
export function slotKey({ attribute, type, equals, part, field }: AttributeSlot): string {
  return JSON.stringify([attribute, type, equals ?? null, part ?? null, field ?? null]);
}
