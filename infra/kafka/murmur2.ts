const SEED = 0x9747b28c;
const M = 0x5bd1e995;
const R = 24;

/**
 * Kafka's murmur2 (org.apache.kafka.common.utils.Utils) of a part of a buffer, without an allocation; a signed 32-bit
 * number.
 */
export function murmur2(bytes: Uint8Array, at = 0, length = bytes.length): number {
  let hash = SEED ^ length;
  const end = at + (length & ~3);
  let i = at;
  for (; i < end; i += 4) {
    let word = bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    word = Math.imul(word, M);
    word ^= word >>> R;
    hash = Math.imul(hash, M) ^ Math.imul(word, M);
  }
  const left = length & 3;
  if (left > 0) {
    if (left === 3) hash ^= bytes[i + 2] << 16;
    if (left >= 2) hash ^= bytes[i + 1] << 8;
    hash = Math.imul(hash ^ bytes[i], M);
  }
  hash ^= hash >>> 13;
  hash = Math.imul(hash, M);
  return hash ^ (hash >>> 15);
}

/** The partition of a key, as Kafka's own clients choose it. */
export function partitionOfKey(bytes: Uint8Array, at: number, length: number, partitions: number): number {
  return (murmur2(bytes, at, length) & 0x7fffffff) % partitions;
}
