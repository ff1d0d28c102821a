import { REPLICATED_WITHIN_MS } from "./broker-connection.js";
import { send } from "./cluster.js";
import { readTags } from "./transaction-protocol.js";
import { ResponseError, Writer, type Connection, type Reader } from "./wire.js";

/** A finished record batch and where it goes. */
export interface PartitionBatch {
  topic: string;
  partition: number;
  batch: Buffer;
}

/** By `topic[partition]`: the offset of the stored batch. */
type ProduceResponse = Map<string, number>;

const PRODUCE_API = 0;
/**
 * Brokers from 2.4 on support the first; with the second, partitions join a transaction with the first write to them
 * (KIP-890).
 */
const PRODUCE_VERSION = 9;
const PRODUCE_VERSION_2 = 12;
const ALL_REPLICAS = -1;
/** A partition's leader itself reports that its replicas did not answer, before it is taken for silent. */
const BROKER_TIMEOUT_MS = REPLICATED_WITHIN_MS - 1_500;

/**
 * Sends finished batches, at most one per partition, to the broker that leads all of them; returns once every in-sync
 * replica has them.
 *
 * @param joins partitions join the transaction with the write (transaction-protocol.ts); otherwise they have joined
 *   already
 * @returns the offset of each batch's first record, in the order of `batches`; -1 if the broker already had the batch
 * @throws KafkaError
 */
export async function produce(
  connection: Connection,
  transactionalId: string | null,
  batches: readonly PartitionBatch[],
  joins = false,
): Promise<number[]> {
  const topics = new Map<string, PartitionBatch[]>();
  for (const batch of batches) {
    const of = topics.get(batch.topic);
    if (of === undefined) topics.set(batch.topic, [batch]);
    else of.push(batch);
  }
  const write = (): Writer =>
    Writer.create()
      .appendString(transactionalId)
      .appendInt16(ALL_REPLICAS)
      .appendInt32(BROKER_TIMEOUT_MS)
      .appendArray([...topics], (w, [topic, parts]) => {
        w.appendString(topic).appendArray(parts, (inner, { partition, batch }) => {
          inner
            .appendInt32(partition)
            .appendUnsignedVarInt(batch.length + 1)
            .append(batch);
        });
      })
      .appendTaggedFields();
  const doing = `producing to ${[...topics.keys()].join(", ")}`;
  const version = joins ? PRODUCE_VERSION_2 : PRODUCE_VERSION;
  const response = await send(
    connection,
    { key: PRODUCE_API, version, write, read: (reader) => parse(reader, version) },
    doing,
    REPLICATED_WITHIN_MS,
  );
  return batches.map(({ topic, partition }) => response.get(`${topic}[${partition}]`) ?? -1);
}

/** Versions 9 to 12 differ in tagged fields alone. */
function parse(reader: Reader, version: number): ProduceResponse {
  const offsets: ProduceResponse = new Map();
  const errors: Record<string, [never, string | null]> = {};
  for (let topics = reader.readUnsignedVarInt() - 1; topics > 0; topics--) {
    const topic = reader.readString();
    for (let partitions = reader.readUnsignedVarInt() - 1; partitions > 0; partitions--) {
      const partition = `${topic}[${reader.readInt32()}]`;
      const code = reader.readInt16();
      offsets.set(partition, Number(reader.readInt64()));
      reader.skip(16); // append time, log start
      let message: string | null = null;
      for (let records = reader.readUnsignedVarInt() - 1; records > 0; records--) {
        reader.readInt32();
        message = reader.readNullableString() ?? message;
        readTags(reader);
      }
      message = reader.readNullableString() ?? message;
      readTags(reader);
      if (code !== 0) errors[partition] = [code as never, message];
    }
    readTags(reader);
  }
  if (Object.keys(errors).length > 0) throw new ResponseError(PRODUCE_API, version, errors, {});
  return offsets;
}
