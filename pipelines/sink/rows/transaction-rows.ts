import { RowBinaryWriter } from "../../../infra/clickhouse/row-binary.js";
import { TIME_RANGE } from "../../../infra/clickhouse/tables.js";
import type { FetchedRecords } from "../../../infra/kafka/records.js";
import { headerSchemaOf } from "../../../infra/kafka/writer-of.js";
import type { Logger } from "../../../infra/logging.js";
import {
  type AttributeTarget,
  type CardIds,
  TransactionFields,
  TransactionReader,
} from "../../../schemas/transaction-reader.js";
import { TransactionRejected } from "../../../schemas/transaction-rejected.js";
import { PLAIN_SHAPE, type RecordShape } from "../../../schemas/record-shape.js";
import type { SchemaKey } from "../../../schemas/wire-format.js";
import { UnavailableWriter } from "../../../schemas/writer-schema.js";
import { type Backoff, retry } from "../../../infra/async/retry.js";
import { learningWriters, type Refusal, type RowMapper, writeCoordinates } from "./row-mapper.js";
import type { SchemaLookup } from "./writer-schemas.js";

/** How many distinct attribute names, of all producers together, are stored. */
const MOST_NAMES = 10_000;
/** How many unknown schema ids the log names. */
const MOST_TOLD = 1_000;

export interface TransactionRowsDeps {
  lookup: SchemaLookup;
  backoff: Backoff;
  log: Logger;
  /** Replaces card ids; null: card ids are used as they are. @default null */
  cards?: CardIds | null;
  /** How producers' records hold our fields. @default as ours do */
  shape?: RecordShape;
}

/**
 * Rows of `transactions`, read as scoring reads them; records that the reader rejects have no row, since scoring
 * dead-letters them. Attributes are stored in three maps by type.
 */
export function transactionRows({
  lookup,
  backoff,
  log,
  cards = null,
  shape = PLAIN_SHAPE,
}: TransactionRowsDeps): RowMapper {
  const attributes = new AttributeMaps(log);
  const reader = new TransactionReader(attributes, cards, shape);
  const fields = new TransactionFields();

  const told = new Set<SchemaKey>();
  const learn = async (key: SchemaKey): Promise<void> => {
    const schema = await retry(async () => await lookup(key), backoff, backoff);
    if ((schema === null || schema instanceof UnavailableWriter) && !told.has(key) && told.size < MOST_TOLD) {
      told.add(key);
      log.warn({ schema: key }, "transactions of this schema id can't be read");
    }
    reader.learn(key, schema);
  };
  return {
    prepare: learningWriters(reader, learn),
    write(records, index, out) {
      attributes.clear();
      const refusal = read(reader, records, index, fields);
      if (refusal) return refusal;
      if (fields.eventTime > TIME_RANGE.most) return { code: "bad_time", reason: "event_time is after 2299" };
      const { bytes } = fields;
      writeCoordinates(records, index, out);
      out.blob(bytes, fields.transactionIdAt, fields.transactionIdLength);
      out.int64(fields.eventTime);
      out.blob(bytes, fields.cardIdAt, fields.cardIdLength);
      out.blob(bytes, fields.merchantIdAt, fields.merchantIdLength);
      out.float64(fields.amount);
      out.blob(bytes, fields.currencyAt, fields.currencyLength);
      attributes.write(out);
      return null;
    },
  };
}

function read(
  reader: TransactionReader,
  records: FetchedRecords,
  index: number,
  fields: TransactionFields,
): Refusal | null {
  try {
    reader.read(
      records.bytes,
      records.valueAt[index],
      records.valueLength[index],
      records.timestamp[index],
      fields,
      headerSchemaOf(records, index),
    );
    return null;
  } catch (error) {
    if (error instanceof TransactionRejected) return { code: error.code, reason: error.message };
    throw error;
  }
}

/** The three maps of one row (numbers, texts and flags), filled as its attributes are read. */
class AttributeMaps implements AttributeTarget {
  /** Each name as a map key in RowBinary. */
  readonly #keys: Buffer[] = [];
  readonly #found = new Map<string, number>();
  readonly #numbers = new GatheredMap();
  readonly #texts = new GatheredMap();
  readonly #flags = new GatheredMap();
  readonly #log: Logger;
  #told = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  find(name: string): number {
    const found = this.#found.get(name);
    if (found !== undefined) return found;
    if (this.#keys.length >= MOST_NAMES) {
      if (!this.#told)
        this.#log.error(
          { names: MOST_NAMES },
          "transactions have too many different attributes: further ones are not stored",
        );
      this.#told = true;
      return -1;
    }
    const key = new RowBinaryWriter(name.length + 8);
    key.text(name);
    this.#found.set(name, this.#keys.length);
    return this.#keys.push(key.written()) - 1;
  }

  number(found: number, value: number): void {
    this.#numbers.entry(this.#keys[found]).float64(value);
  }

  boolean(found: number, value: boolean): void {
    this.#flags.entry(this.#keys[found]).byte(value ? 1 : 0);
  }

  text(found: number, bytes: Buffer, at: number, length: number): void {
    this.#texts.entry(this.#keys[found]).blob(bytes, at, length);
  }

  clear(): void {
    this.#numbers.clear();
    this.#texts.clear();
    this.#flags.clear();
  }

  write(out: RowBinaryWriter): void {
    this.#numbers.write(out);
    this.#texts.write(out);
    this.#flags.write(out);
  }
}

/** Entries of a map whose count is known only at the end. */
class GatheredMap {
  readonly #entries = new RowBinaryWriter(1_024);
  #count = 0;

  /** Writes the key; the caller writes the value. */
  entry(key: Buffer): RowBinaryWriter {
    this.#count += 1;
    this.#entries.raw(key, 0, key.length);
    return this.#entries;
  }

  clear(): void {
    this.#count = 0;
    this.#entries.clear(64 * 1024);
  }

  write(out: RowBinaryWriter): void {
    out.count(this.#count);
    out.raw(this.#entries.bytes, 0, this.#entries.length);
  }
}
