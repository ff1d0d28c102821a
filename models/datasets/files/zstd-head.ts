import { RequestError } from "../../../schemas/errors.js";

/** A decoder keeps this much of what it has unpacked. */
const MOST_WINDOW = 128 * 1024 * 1024;
/** Bytes that the head of a frame has at most. */
export const ZSTD_HEAD_BYTES = 18;

/** @param head the first bytes of a Zstandard frame @throws RequestError `csv_truncated` */
export function refuseLargeWindow(head: Buffer): void {
  if ((windowOf(head) ?? 0) > MOST_WINDOW)
    throw new RequestError(
      "csv_truncated",
      "the zstd data needs a window of over 128 MB: pack it without --ultra or --long",
    );
}

/** Bytes that the frame wants to be kept, where its head says so (RFC 8878, 3.1.1.1.2). */
function windowOf(head: Buffer): number | null {
  if (head.length < 6) return null;
  if ((head[4] & 0x20) !== 0) return zstdContentSize(head);
  const base = 2 ** (10 + (head[5] >> 3));
  return base + (base / 8) * (head[5] & 7);
}

/** Bytes that a frame unpacks to; null: its head doesn't say. */
export function zstdContentSize(head: Buffer): number | null {
  const single = (head[4] & 0x20) !== 0;
  const at = 5 + Number(!single) + [0, 1, 2, 4][head[4] & 3];
  const kind = head[4] >> 6;
  const bytes = kind === 0 ? Number(single) : 2 ** kind;
  if (bytes === 0 || head.length < at + bytes) return null;
  if (bytes === 8) return Number(head.readBigUInt64LE(at));
  return head.readUIntLE(at, bytes) + (bytes === 2 ? 256 : 0);
}
