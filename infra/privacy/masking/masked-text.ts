import { maskCardNumbers } from "./card-numbers.js";
import { hideSecrets } from "./secrets.js";

/** Controls that a terminal acts upon, and marks that turn text around. */
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * A text as it may be written down: without card numbers, without what it calls a secret, without control characters.
 */
export function maskedText(text: string): string {
  return escapeControls(maskCardNumbers(hideSecrets(text)));
}

/** Control characters as `\u001b`; line ends and tabs stay. */
export function escapeControls(text: string): string {
  return text.replace(CONTROLS, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
