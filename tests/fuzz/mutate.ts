import type { RandomSource } from "../support/random-source.js";

/** Bytes that lengths, counts and signs are made of. */
const TELLING = [0x00, 0x01, 0x02, 0x7f, 0x80, 0x81, 0xff];
/** A varint of ten bytes: the largest and the smallest long. */
const LONGEST = [
  Buffer.from("feffffffffffffffff01", "hex"),
  Buffer.from("ffffffffffffffffff01", "hex"),
  Buffer.from("ffffffffffffffffffffff", "hex"),
];

type Mutation = (bytes: Buffer, random: RandomSource, other: () => Buffer) => Buffer;

const MUTATIONS: readonly Mutation[] = [
  // A bit the other way round.
  (bytes, random) => {
    const changed = Buffer.from(bytes);
    changed[random.int(changed.length)] ^= 1 << random.int(8);
    return changed;
  },
  // A byte that could be a length, a count or a sign.
  (bytes, random) => {
    const changed = Buffer.from(bytes);
    changed[random.int(changed.length)] = random.pick(TELLING);
    return changed;
  },
  // Cut off.
  (bytes, random) => bytes.subarray(0, random.int(bytes.length)),
  // Something put in between.
  (bytes, random) => {
    const at = random.int(bytes.length + 1);
    return Buffer.concat([
      bytes.subarray(0, at),
      random.next() < 0.3 ? random.pick(LONGEST) : random.bytes(1 + random.int(8)),
      bytes.subarray(at),
    ]);
  },
  // A piece taken out.
  (bytes, random) => {
    const at = random.int(bytes.length);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + 1 + random.int(16)))]);
  },
  // A piece twice, up to many times.
  (bytes, random) => {
    const at = random.int(bytes.length);
    const piece = bytes.subarray(at, at + 1 + random.int(32));
    return Buffer.concat([
      bytes.subarray(0, at),
      ...Array.from({ length: 1 + random.int(random.next() < 0.05 ? 500 : 4) }, () => piece),
      bytes.subarray(at),
    ]);
  },
  // The beginning of one, the end of another.
  (bytes, random, other) => {
    const tail = other();
    return Buffer.concat([bytes.subarray(0, random.int(bytes.length + 1)), tail.subarray(random.int(tail.length + 1))]);
  },
];

/** Bytes with one to three things wrong; `other` gives what they may be spliced with. */
export function mutated(bytes: Buffer, random: RandomSource, other: () => Buffer): Buffer {
  let changed = bytes;
  for (let times = 1 + random.int(3); times > 0 && changed.length > 0; times--)
    changed = random.pick(MUTATIONS)(changed, random, other);
  return changed;
}

/** Texts that stand where another kind of value should: in JSON, CSV cells, parameters. */
export const ODD_TEXTS: readonly string[] = [
  "",
  " ",
  "null",
  "true",
  "NaN",
  "Infinity",
  "-0",
  "1e999",
  "-1e999",
  "1e-999",
  "0x10",
  "9007199254740993",
  "123456789012345678901234567890",
  "1.5",
  "-1",
  "\u0000",
  "\ud800",
  "\u202e",
  "ﷺ",
  "🧨".repeat(50),
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "../../etc/passwd",
  "' OR 1=1 --",
  "{{7*7}}",
  "${7*7}",
  "<script>",
  "%00",
  "%s%n",
  "\r\nx: y",
  "a".repeat(300),
  "é".repeat(200),
  "2026-02-30T25:61:61Z",
  "0000-00-00",
];
