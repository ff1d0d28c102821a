import { Writer, produceV9, type Connection } from "@platformatic/kafka";
import { toKafkaError } from "./errors.js";

/** A finished record batch and where it goes. */
export interface PartitionBatch { topic: string; partition: number; batch: Buffer }

type ProduceResponse = ReturnType<typeof produceV9.parseResponse>;

const PRODUCE_API = 0;
const PRODUCE_VERSION = 9;
const ALL_REPLICAS = -1;
const BROKER_TIMEOUT_MS = 30_000;

/**
 * Sends finished batches, at most one a partition, to the broker that leads all of them; returns when every in-sync replica has them.
 *
 * @returns the offset of each batch's first record, in the order of `batches`; -1 where the broker had the batch already
 * @throws KafkaError
 */
export async function produce(connection: Connection, transactionalId: string | null, batches: readonly PartitionBatch[]): Promise<number[]> {
  const topics = new Map<string, PartitionBatch[]>();
  for (const batch of batches) {
    const of = topics.get(batch.topic);
    if (of === undefined) topics.set(batch.topic, [batch]);
    else of.push(batch);
  }
  const request = (): Writer =>
    Writer.create()
      .appendString(transactionalId)
      .appendInt16(ALL_REPLICAS)
      .appendInt32(BROKER_TIMEOUT_MS)
      .appendArray([...topics], (w, [topic, parts]) => {
        w.appendString(topic).appendArray(parts, (inner, { partition, batch }) => {
          inner.appendInt32(partition).appendUnsignedVarInt(batch.length + 1).append(batch);
        });
      })
      .appendTaggedFields();
  const doing = `producing to ${[...topics.keys()].join(", ")}`;
  const response = await new Promise<ProduceResponse>((resolve, reject) => {
    connection.send(PRODUCE_API, PRODUCE_VERSION, request, produceV9.parseResponse, true, true, (error, answer) => {
      if (error) reject(toKafkaError(error, doing));
      else resolve(answer as ProduceResponse);
    });
  });
  return batches.map(({ topic, partition }) => {
    const answer = response.responses.find(({ name }) => name === topic)?.partitionResponses.find(({ index }) => index === partition);
    return Number(answer?.baseOffset ?? -1);
  });
}
