import { Duplex } from "node:stream";
import type { Socket } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { watch } from "../../../../infra/kafka/watched-socket.js";

const METADATA = 3;
const JOIN_GROUP = 11;
const API_VERSIONS = 18;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function request(api: number): Buffer {
  const bytes = Buffer.alloc(30);
  bytes.writeInt32BE(26, 0);
  bytes.writeInt16BE(api, 4);
  return bytes;
}

function response(length = 40): Buffer {
  const bytes = Buffer.alloc(4 + length);
  bytes.writeInt32BE(length, 0);
  return bytes;
}

/** A socket whose first question is answered. */
function answeredOnce(): { socket: Socket; answer: (bytes: Buffer) => void; heard: boolean[] } {
  const heard: boolean[] = [];
  const socket = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() }) as Socket;
  socket.on("error", () => {});
  watch(socket, (answered) => heard.push(answered));
  const answer = (bytes: Buffer): void => void socket.emit("data", bytes);
  socket.write(request(API_VERSIONS));
  answer(response());
  return { socket, answer, heard };
}

test("a broker that has answered before and is silent now has four seconds for requests it can answer at once", () => {
  const { socket, heard } = answeredOnce();
  socket.write(request(METADATA));
  vi.advanceTimersByTime(3_999);
  expect(socket.destroyed).toBe(false);
  vi.advanceTimersByTime(1);
  expect(socket.destroyed).toBe(true);
  expect(heard.at(-1)).toBe(false);
});

test("a group may take its time to gather, and requests queued behind it wait as long", () => {
  const { socket, answer } = answeredOnce();
  socket.write(request(JOIN_GROUP));
  vi.advanceTimersByTime(1_000);
  socket.write(request(METADATA));
  vi.advanceTimersByTime(8_000);
  expect(socket.destroyed).toBe(false);
  // In pieces, one of them within a length; half of the second answer comes with the first.
  const both = Buffer.concat([response(1_000), response(5)]);
  for (const [from, to] of [
    [0, 2],
    [2, 500],
    [500, 1_006],
  ])
    answer(both.subarray(from, to));
  vi.advanceTimersByTime(3_500);
  expect(socket.destroyed).toBe(false);
  answer(both.subarray(1_006));
  vi.advanceTimersByTime(60_000);
  expect(socket.destroyed).toBe(false);
  socket.write(request(JOIN_GROUP));
  vi.advanceTimersByTime(9_999);
  expect(socket.destroyed).toBe(false);
  vi.advanceTimersByTime(1);
  expect(socket.destroyed).toBe(true);
});
