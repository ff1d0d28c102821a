import { constants, gunzipSync } from "node:zlib";
import { messageOf } from "../../schemas/errors.js";

/** Bytes that tell what a file is. */
export const HEAD_BYTES = 1024;

const CONTENT_TYPES = /^(text\/html|application\/(xhtml\+xml|json|pdf|x-tar)|image\/|video\/|audio\/)/i;
/** What begins no CSV file: markup, JSON, PDF. */
const OTHER_TEXT = /^(\uFEFF|\s)*(<|\{|\[|%PDF-)/;
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/;

/** Why a response of this type can't be a CSV file; null: it can be. */
export function whyNotCsvType(contentType: string): string | null {
  return CONTENT_TYPES.test(contentType.trim()) ? `it is ${contentType.split(";", 1)[0].trim()}` : null;
}

/**
 * Why a file that begins like this is not a CSV, plain or gzipped; null: it may be one. A zip archive, Zstandard,
 * Parquet and gzip within gzip are its reader's to open.
 */
export function whyNotCsv(head: Uint8Array): string | null {
  if (head.length === 0) return "it is empty";
  if (isPacked(head)) return null;
  if (head[0] !== 0x1f || head[1] !== 0x8b) return whyNotText(head, "it");
  try {
    const inner = gunzipSync(head, { finishFlush: constants.Z_SYNC_FLUSH });
    if (isPacked(inner) || (inner[0] === 0x1f && inner[1] === 0x8b)) return null;
    return whyNotText(inner, "what it holds, unpacked,");
  } catch (error) {
    return `it is damaged gzip data (${messageOf(error)})`;
  }
}

/** By the first bytes of a zip archive, of Zstandard and of Parquet. */
function isPacked(head: Uint8Array): boolean {
  const [a, b, c, d] = head;
  if (a === 0x50 && b === 0x41 && c === 0x52 && d === 0x31) return true;
  return (a === 0x50 && b === 0x4b && (c === 3 || c === 5)) || (a === 0x28 && b === 0xb5 && c === 0x2f && d === 0xfd);
}

/** A mark, or a zero in every second byte of ASCII. */
function isUtf16(head: Uint8Array): boolean {
  if ((head[0] === 0xff && head[1] === 0xfe) || (head[0] === 0xfe && head[1] === 0xff)) return true;
  const zeros = [0, 0];
  for (let at = 0; at < (head.length & ~1); at++) if (head[at] === 0) zeros[at % 2] += 1;
  return Math.min(...zeros) === 0 && Math.max(...zeros) > head.length / 5;
}

function whyNotText(head: Uint8Array, what: string): string | null {
  if (isUtf16(head)) return null;
  const text = new TextDecoder().decode(head);
  if (CONTROL.test(text)) return `${what} is binary`;
  return OTHER_TEXT.test(text) ? `${what} begins with ${JSON.stringify(text.trim().slice(0, 20))}` : null;
}
