import { murmur2 as reference } from "@platformatic/kafka";
import { expect, it } from "vitest";
import { murmur2, partitionOfKey } from "../../../../infra/kafka/murmur2.js";
import { RandomSource } from "../../../support/random-source.js";

it("hashes part of a buffer as another implementation hashes that part alone", () => {
  const random = new RandomSource(7);
  for (let round = 0; round < 500; round++) {
    const bytes = random.bytes(40);
    const at = round % 8;
    const length = round % 33;
    const expected = reference(bytes.subarray(at, at + length));
    expect(murmur2(bytes, at, length)).toBe(expected);
    expect(partitionOfKey(bytes, at, length, 7)).toBe((expected & 0x7fffffff) % 7);
  }
});
