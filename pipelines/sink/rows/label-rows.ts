import { isTooFarAhead, labelOrder, labelVersion } from "../../../infra/kafka/label-order.js";
import { partitionOfKey } from "../../../infra/kafka/murmur2.js";
import { headerSchemaOf } from "../../../infra/kafka/writer-of.js";
import type { RecordCode } from "../../../schemas/error-codes.js";
import { LabelReader } from "../../../schemas/label-reader.js";
import { PLAIN_SHAPE, type RecordShape } from "../../../schemas/record-shape.js";
import type { SchemaKey } from "../../../schemas/wire-format.js";
import { retry } from "../../../infra/async/retry.js";
import type { AvroRowsDeps } from "./avro-rows.js";
import { learningWriters, type Refusal, type RowMapper, writeCoordinates } from "./row-mapper.js";

/** The name that dead letters of labels have had since before their reader was shared with transactions. */
const CODES: Partial<Record<RecordCode, RecordCode>> = {
  unknown_format: "not_avro",
  avro_truncated: "malformed_avro",
  avro_trailing: "malformed_avro",
  schema_mismatch: "incompatible_schema",
};

/**
 * Rows of `labels`, read as the merchants role reads them; the fields are followed by the version. A label without an
 * id could not be joined to anything.
 *
 * @param deps.partitions of the topic; if not given, every label counts as being in its card's partition
 */
export function labelRows({
  lookup,
  backoff,
  cards = null,
  shape = PLAIN_SHAPE,
  partitions,
}: AvroRowsDeps & { shape?: RecordShape; partitions?: number }): RowMapper {
  const reader = new LabelReader(cards, shape);
  const learn = async (key: SchemaKey): Promise<void> =>
    reader.learn(key, await retry(() => lookup(key), backoff, backoff));
  return {
    prepare: learningWriters(reader, learn),
    write(records, index, out): Refusal | null {
      const { bytes, valueAt, valueLength } = records;
      if (!reader.read(bytes, valueAt[index], valueLength[index], headerSchemaOf(records, index))) {
        const { code, reason } = reader.refusal as Refusal;
        return { code: CODES[code] ?? code, reason };
      }
      const order = labelOrder(records, index);
      if (isTooFarAhead(order))
        return {
          code: "bad_time",
          reason: "it was published more than a day ahead of the clock here: correct the clock of its producer",
        };
      writeCoordinates(records, index, out);
      out.blob(reader.bytes, reader.transactionAt, reader.transactionLength);
      out.blob(reader.bytes, reader.cardAt, reader.cardLength);
      out.byte(reader.isFraud === true ? 1 : 0);
      out.int64(reader.labelTime);
      const inPlace =
        partitions === undefined ||
        partitionOfKey(reader.bytes, reader.cardAt, reader.cardLength, partitions) === records.partition;
      const { low, high } = labelVersion(order, records.offset[index], inPlace);
      out.int32(low | 0);
      out.int32(high);
      return null;
    },
  };
}
