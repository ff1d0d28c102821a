import { isUtf8 } from "node:buffer";
import { TransactionRejected } from "./transaction-rejected.js";

/** The longest id of a transaction, card or merchant, wherever it comes in. */
export const MAX_ID_BYTES = 256;

/** Whether an id is longer than its bytes may be. */
export function isLongId(id: string): boolean {
  return Buffer.byteLength(id) > MAX_ID_BYTES;
}

/**
 * @throws TransactionRejected `missing_id`, `long_id`, `invalid_utf8` @param missing what to do about one that isn't
 *   there
 */
export function checkId(name: string, bytes: Buffer, at: number, length: number, missing = ""): void {
  if (length <= 0) throw new TransactionRejected("missing_id", `${name} is missing or empty${missing}`);
  if (length > MAX_ID_BYTES) throw new TransactionRejected("long_id", `${name} is longer than ${MAX_ID_BYTES} bytes`);
  for (let i = at; i < at + length; i++) {
    if (bytes[i] < 0x80) continue;
    if (!isUtf8(bytes.subarray(at, at + length))) throw new TransactionRejected("invalid_utf8", `${name} is not UTF-8`);
    return;
  }
}
