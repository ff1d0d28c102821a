/** Short texts are copied byte by byte, which is quicker than a call. */
const COPY_BY_HAND_BYTES = 48;

/** Writes an Avro string from another buffer and returns the position after it. There must be enough room. */
export function writeText(bytes: Uint8Array, at: number, source: Buffer, from: number, length: number): number {
  at = writeLong(bytes, at, length);
  if (length <= COPY_BY_HAND_BYTES) for (let i = 0; i < length; i++) bytes[at + i] = source[from + i];
  else source.copy(bytes, at, from, from + length);
  return at + length;
}

/** Writes an Avro long, a zigzag varint, and returns the position after it. Exact up to 2^53. */
export function writeLong(bytes: Uint8Array, at: number, value: number): number {
  let rest = value >= 0 ? value * 2 : -value * 2 - 1;
  while (rest >= 0x8000_0000) {
    bytes[at++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  while (rest >= 0x80) {
    bytes[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[at++] = rest;
  return at;
}
