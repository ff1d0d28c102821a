import { REPLICATED_WITHIN_MS } from "./broker-connection.js";
import { send } from "./cluster.js";
import { ResponseError, Writer, type Connection, type Reader } from "./wire.js";

/**
 * The second version of Kafka's transactions (KIP-890; brokers from 4.0 on, where the feature `transaction.version` is
 * 2): a partition joins a transaction with the first write to it, without a separate request, and each transaction has
 * its own epoch, so that a delayed write can't get into the next one. `@platformatic/kafka` doesn't support these
 * versions yet.
 */
const API_VERSIONS = { key: 18, version: 3, taggedResponse: false } as const;
const TXN_OFFSET_COMMIT = { key: 28, version: 5 } as const;
const END_TXN = { key: 26, version: 5 } as const;
const FEATURE = "transaction.version";
/** Tag of the finalized features in an ApiVersions response. */
const FINALIZED_FEATURES = 2;

export interface ProducerIdentity {
  producerId: bigint;
  producerEpoch: number;
}

/** Whether the broker's cluster supports the second version. */
export async function hasTransactionVersion2(connection: Connection): Promise<boolean> {
  const write = (): Writer => Writer.create().appendString("fraudstream").appendString("1").appendTaggedFields();
  const read = (reader: Reader): boolean => {
    let level = 0;
    reader.readInt16();
    const apis = reader.readUnsignedVarInt() - 1;
    for (let i = 0; i < apis; i++) {
      reader.skip(6);
      readTags(reader);
    }
    reader.readInt32(); // throttle time
    readTags(reader, (tag) => {
      if (tag !== FINALIZED_FEATURES) return;
      for (let left = reader.readUnsignedVarInt() - 1; left > 0; left--) {
        const name = reader.readString();
        const most = reader.readInt16();
        reader.readInt16();
        readTags(reader);
        if (name === FEATURE) level = most;
      }
    });
    return level >= 2;
  };
  return send(connection, { ...API_VERSIONS, write, read }, "asking for the features of the cluster");
}

/**
 * Adds a group's offset of one partition to the transaction, which begins with it if it hasn't begun. Without
 * generation and member: see TransactionalProducer.
 */
export function txnOffsetCommitV5(
  connection: Connection,
  transactionalId: string,
  group: string,
  producer: ProducerIdentity,
  consumed: { topic: string; partition: number; offset: number; metadata: string },
  doing: string,
): Promise<void> {
  const write = (): Writer =>
    Writer.create()
      .appendString(transactionalId)
      .appendString(group)
      .appendInt64(producer.producerId)
      .appendInt16(producer.producerEpoch)
      .appendInt32(-1)
      .appendString("")
      .appendString(null)
      .appendArray([consumed], (w, { topic, partition, offset, metadata }) => {
        w.appendString(topic).appendArray([offset], (inner) => {
          inner.appendInt32(partition).appendInt64(BigInt(offset)).appendInt32(-1).appendString(metadata);
        });
      })
      .appendTaggedFields();
  const read = (reader: Reader): void => {
    reader.readInt32(); // throttle time
    let error = 0;
    reader.readArray((topics) => {
      topics.readString();
      topics.readArray((partitions) => {
        partitions.readInt32();
        error ||= partitions.readInt16();
      });
    });
    check(TXN_OFFSET_COMMIT, error);
  };
  return send(connection, { ...TXN_OFFSET_COMMIT, write, read }, doing, REPLICATED_WITHIN_MS);
}

/** Ends a transaction. @returns the identity for the next one */
export function endTxnV5(
  connection: Connection,
  transactionalId: string,
  producer: ProducerIdentity,
  commit: boolean,
  doing: string,
): Promise<ProducerIdentity> {
  const write = (): Writer =>
    Writer.create()
      .appendString(transactionalId)
      .appendInt64(producer.producerId)
      .appendInt16(producer.producerEpoch)
      .appendBoolean(commit)
      .appendTaggedFields();
  const read = (reader: Reader): ProducerIdentity => {
    reader.readInt32(); // throttle time
    check(END_TXN, reader.readInt16());
    return { producerId: reader.readInt64(), producerEpoch: reader.readInt16() };
  };
  return send(connection, { ...END_TXN, write, read }, doing, REPLICATED_WITHIN_MS);
}

function check({ key, version }: { key: number; version: number }, error: number): void {
  if (error !== 0) throw new ResponseError(key, version, { "/": [error, null] }, {});
}

/** Reads tagged fields, including those that nobody uses. @param read called at the value of a field */
export function readTags(reader: Reader, read: (tag: number) => void = () => {}): void {
  for (let left = reader.readUnsignedVarInt(); left > 0; left--) {
    const tag = reader.readUnsignedVarInt();
    const end = reader.readUnsignedVarInt() + reader.position;
    read(tag);
    reader.skip(end - reader.position);
  }
}
