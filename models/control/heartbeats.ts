import type { OutgoingRecord } from "../../infra/kafka/batch-producer.js";
import { encodeHeaders } from "../../infra/kafka/record-batch-builder.js";
import { readHeaders, type FetchedRecords } from "../../infra/kafka/records.js";
import type { Schemas } from "../../infra/kafka/schemas.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { WorkerHeartbeat } from "../../schemas/generated.js";

/**
 * Header of a heartbeat without a registry: its full content, under the newest id. The value is then in the schema that
 * every version knows: a version that doesn't know the newest id would take the worker for dead.
 */
const NEWEST = "fraudstream-heartbeat";

/** The record of a heartbeat. */
export function heartbeatRecord(schemas: Schemas, beat: WorkerHeartbeat): OutgoingRecord {
  const key = Buffer.from(beat.worker);
  const newest = schemas.encode("workers", beat);
  const first = schemas.encodeFirst("workers", beat);
  return first === null ? { key, value: newest } : { key, value: first, headers: encodeHeaders([[NEWEST, newest]]) };
}

/**
 * The heartbeat in a record, as far as this version understands it.
 *
 * @throws FraudstreamError `undecodable`; a retriable one if the registry can't be asked
 */
export async function readHeartbeat(
  schemas: Schemas,
  records: FetchedRecords,
  index: number,
): Promise<WorkerHeartbeat> {
  const at = records.valueAt[index];
  const value = records.bytes.subarray(at, at + Math.max(0, records.valueLength[index]));
  const newest = value.length === 0 ? null : readHeaders(records, index).find(([name]) => name === NEWEST)?.[1];
  if (newest) {
    try {
      return (await schemas.decode("workers", newest)) as WorkerHeartbeat;
    } catch (error) {
      // From a later version, whose newest id isn't known here.
      if (!(error instanceof FraudstreamError) || error.code !== "undecodable") throw error;
    }
  }
  return (await schemas.decode("workers", value)) as WorkerHeartbeat;
}
