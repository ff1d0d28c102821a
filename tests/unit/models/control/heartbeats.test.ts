/** Heartbeats of versions that run side by side: without a registry a reader knows a schema by its fixed id alone. */
import avro from "avsc";
import { expect, test } from "vitest";
import { signInHeartbeat, signInLinesOf } from "../../../../api/users/sign-in-locks.js";
import { readHeaders, type FetchedRecords } from "../../../../infra/kafka/records.js";
import { Schemas } from "../../../../infra/kafka/schemas.js";
import { heartbeatRecord, readHeartbeat } from "../../../../models/control/heartbeats.js";
import type { WorkerHeartbeat } from "../../../../schemas/generated.js";
import { subjectTopics, topicsFor } from "../../../../schemas/topics.js";
import { FIXED_SCHEMAS, WIRE_HEAD_BYTES, schemaIdOf } from "../../../../schemas/wire-format.js";
import { fetchedRecords } from "../../../support/fetched-records.js";
import { registryServer } from "../../../support/registry-server.js";
import { wireValue } from "../../../support/transactions.js";

type Written = ReturnType<typeof heartbeatRecord>;
/** The only id of version 0.1.0, and the one that was added after it. */
const FIRST = 1_000_005;
const WITH_REFUSED = 1_000_105;
const LOCK = "sign-in-lock AAAAAAAAAAAAAAAA 1790000000000";
const schemas = new Schemas({ schemaRegistryUrl: null, schemasDir: null });
const scoring: WorkerHeartbeat = {
  worker: "scoring-1",
  role: "scoring",
  at: 1_790_000_000_000,
  partitions: [{ partition: 2, epoch: 7 }],
  problems: ["a shadow was dropped"],
  refused: [{ epoch: 9, model: "b@1", reason: "it hangs" }],
  job: null,
  sign_in_locks: [],
};
const signIn = signInHeartbeat("api-1", [LOCK]);

const headersOf = ({ headers }: Written): [string, Buffer | null][] =>
  headers ? readHeaders({ bytes: headers, headersAt: Int32Array.of(0) } as FetchedRecords, 0) : [];
const read = (value: Buffer | null, headers: [string, Buffer | null][] = [], by = schemas): Promise<WorkerHeartbeat> =>
  readHeartbeat(by, fetchedRecords({ topic: "workers" }, [{ value, headers }]), 0);
const schemaOf = (id: number): object => FIXED_SCHEMAS.get(id)?.schema as object;

test.each([scoring, signIn])(
  "of this version are read by 0.1.0 without a registry as far as it knows them, and by this version fully",
  async (beat) => {
    const record = heartbeatRecord(schemas, beat);
    const value = record.value as Buffer;
    expect(schemaIdOf(value, 0, value.length)).toBe(FIRST);
    const { worker, role, at, partitions, problems, job } = beat;
    const known = avro.Type.forSchema(schemaOf(FIRST) as avro.Schema).fromBuffer(
      value.subarray(WIRE_HEAD_BYTES),
    ) as object;
    expect(JSON.parse(JSON.stringify(known))).toEqual({ worker, role, at, partitions, problems, job });
    expect(JSON.parse(JSON.stringify(await read(value, headersOf(record))))).toEqual(beat);
  },
);

test.each([FIRST, WITH_REFUSED])(
  "of a version that wrote %s are read, and so are the sign-in locks among its problems",
  async (id) => {
    const older = await read(wireValue({ ...signIn }, id, schemaOf(id)));
    expect(older).toMatchObject({ worker: "api-1", refused: [], problems: [LOCK], sign_in_locks: [] });
    expect(signInLinesOf(older)).toEqual([LOCK]);
    expect(signInLinesOf(signIn)).toEqual([LOCK]);
  },
);

test(
  "of a later version, whose newest id isn't known here, are read as far as it says the same in the " + "first schema",
  async () => {
    const record = heartbeatRecord(schemas, scoring);
    const later = headersOf(record).map(([name, newest]): [string, Buffer] => {
      const changed = Buffer.from(newest as Buffer);
      changed.writeUInt32BE(1_000_305, 1);
      return [name, changed];
    });
    expect(later).toHaveLength(1);
    expect(await read(record.value, later)).toMatchObject({
      worker: "scoring-1",
      partitions: [{ partition: 2, epoch: 7 }],
      refused: [],
    });
    await expect(read(null)).rejects.toMatchObject({ code: "undecodable" });
  },
);

test("carry only the newest schema if a registry has it for every version", async () => {
  const registry = await registryServer();
  const registered = new Schemas({ schemaRegistryUrl: registry.url, schemasDir: null });
  await registered.register(subjectTopics(topicsFor("test.", 1)));
  const record = heartbeatRecord(registered, signIn);
  const value = record.value as Buffer;
  expect([headersOf(record), schemaIdOf(value, 0, value.length)]).toEqual([[], registered.idOf("workers")]);
  expect(JSON.parse(JSON.stringify(await read(value, [], registered)))).toEqual(signIn);
});
