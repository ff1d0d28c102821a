/**
 * Kafka's requests as `@platformatic/kafka` encodes them, without that package's clients: those compile their JSON
 * schemas when they are imported, which took 0.4 s of processor time and 0.25 s of every role's start. The package
 * exports all or nothing, so its parts are found next to its entry point; a part that a later version moves is noticed
 * at the first import.
 */
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import type * as Kafka from "@platformatic/kafka";

export type { API, ConnectionOptions, Reader } from "@platformatic/kafka";
export type Connection = Kafka.Connection;
export type Writer = Kafka.Writer;
export type ResponseError = Kafka.ResponseError;

const entry = pathToFileURL(createRequire(import.meta.url).resolve("@platformatic/kafka"));
const part = (path: string): Promise<typeof Kafka> => import(new URL(path, entry).href) as Promise<typeof Kafka>;
const [errors, network, protocol, apis] = await Promise.all(
  ["errors.js", "network/index.js", "protocol/index.js", "apis/index.js"].map(part),
);

export const { ResponseError } = errors;
export const { Connection } = network;
export const { Writer, compressionsAlgorithms, protocolErrorsCodesById } = protocol;
export const {
  addOffsetsToTxnV3,
  addPartitionsToTxnV3,
  describeProducersV0,
  endTxnV3,
  findCoordinatorV4,
  initProducerIdV4,
  listOffsetsV7,
  metadataV12,
  offsetFetchV8,
  txnOffsetCommitV3,
} = apis;
