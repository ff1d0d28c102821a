import { constants, gunzipSync } from "node:zlib";
import { messageOf } from "../../schemas/errors.js";

/** Bytes that tell what a file is. */
export const HEAD_BYTES = 1024;

const CONTENT_TYPES = /^(text\/html|application\/(xhtml\+xml|json|pdf|zip|x-tar)|image\/|video\/|audio\/)/i;
/** What begins no CSV file: markup, JSON, PDF. */
const OTHER_TEXT = /^(\uFEFF|\s)*(<|\{|\[|%PDF-)/;
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/;

/** Why a response of this type can't be a CSV file; null: it can be. */
export function whyNotCsvType(contentType: string): string | null {
  return CONTENT_TYPES.test(contentType.trim()) ? `it is ${contentType.split(";", 1)[0].trim()}` : null;
}

/** Why a file that begins like this is not a CSV, plain or gzipped; null: it may be one. */
export function whyNotCsv(head: Uint8Array): string | null {
  if (head.length === 0) return "it is empty";
  if (head[0] !== 0x1f || head[1] !== 0x8b) return whyNotText(head, "it");
  try {
    return whyNotText(gunzipSync(head, { finishFlush: constants.Z_SYNC_FLUSH }), "what it holds, unpacked,");
  } catch (error) {
    return `it is damaged gzip data (${messageOf(error)})`;
  }
}

function whyNotText(head: Uint8Array, what: string): string | null {
  // UTF-16 begins with a mark; the CSV parser knows it.
  if (head[0] === 0xff && head[1] === 0xfe) return null;
  const text = new TextDecoder().decode(head);
  if (CONTROL.test(text)) return `${what} is binary`;
  return OTHER_TEXT.test(text) ? `${what} begins with ${JSON.stringify(text.trim().slice(0, 20))}` : null;
}
