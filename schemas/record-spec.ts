import type { RecordCode } from "./error-codes.js";
/** What a record's fields are read into. `bytes` holds the texts that stand in the record itself. */
export interface RecordFields {
  bytes: Buffer;
}

/** A field of ours: what it may be, and where it goes. `wanted` and `badCode` are for messages. */
export type FieldKind<F> =
  | {
      kind: "text";
      wanted: string;
      place: (fields: F, at: number, length: number) => void;
      /** A text that doesn't stand in the record. */ make: (fields: F, text: Buffer) => void;
    }
  | { kind: "number" | "time" | "flag"; wanted: string; badCode: RecordCode; set: (fields: F, value: number) => void };

/** The fields of one kind of record. */
export interface RecordSpec<F> {
  required: readonly string[];
  fields: Readonly<Record<string, FieldKind<F>>>;
  /** Whether further fields are attributes. */
  attributes: boolean;
}

/** All names of a kind of record that stand for something of ours. */
export function namesOf<F>({ fields, attributes }: RecordSpec<F>): readonly string[] {
  return attributes ? [...Object.keys(fields), "attributes"] : Object.keys(fields);
}
