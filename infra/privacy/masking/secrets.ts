/** Replaces a secret. */
export const HIDDEN = "[hidden]";

/** In a name without its separators, at any position: `clientSecret`, `x-amz-security-token`, `CARD_CVC`. */
const SECRET_PART = new RegExp(
  "passw|passphrase|passcode|passkey|pwd|kennwort|motdepasse|contrasen|seedphrase|mnemonic|recoverycode|secret|token|" +
    "authori[sz]ation|apikey|accesskey|privatekey|signingkey|encryptionkey|enckey|credential|cookie|cvv|cvc|cvn|" +
    "securitycode|seccode|verificationcode|verificationvalue|cardverification|signature|sessionid|pincode|pinblock|" +
    "cardpin|userpin|onetime|trackdata|magstripe",
);
/** As a word of a name: short ones are in too many others (`shipping`, `signal`). */
const SECRET_WORDS = new Set([
  "pin",
  "otp",
  "totp",
  "mfa",
  "fa",
  "tan",
  "sig",
  "csc",
  "cav",
  "cid",
  "pw",
  "pass",
  "auth",
  "jwt",
  "bearer",
  "sid",
  "track",
]);

/** Whether the value of a field, parameter or header of this name is a secret, however the name is written. */
export function isSecretName(name: string): boolean {
  // Without accents, and without characters that can't be seen.
  const plain = name
    .slice(0, 200)
    .normalize("NFKD")
    .replace(/[\p{M}\p{Cf}]/gu, "");
  const words = plain
    .replace(/(\p{Ll})(?=\p{Lu})|(\p{Lu})(?=\p{Lu}\p{Ll})/gu, "$1$2 ")
    .toLowerCase()
    .split(/[^\p{L}]+/u)
    .filter((word) => word !== "");
  return SECRET_PART.test(words.join("")) || words.some((word) => SECRET_WORDS.has(word));
}

/** To the last @: a password may have one. */
const USER_INFO = /(\/\/)[^\s/?#"'<>\\]{1,500}@/g;
const PARAMETER = /([?&;])([^\s=&?#"'<>]{1,200})=([^\s&#"'<>]+)/g;
/** `password=…`, `"api_key": "…"`, also inside another JSON text. */
const ASSIGNMENT = /(\\{0,31}["']|)\b([A-Za-z][\w.\-[\]]{1,60})\1(\s{0,3}(?:=>|[:=])\s{0,3})/g;
/** `--password x`, as in a command line; `<password>x</password>`; `the password is x`. */
const OPTION = /(?<![\w-])(--?([A-Za-z][\w-]{1,60})\s{1,3})(?!-)("[^"]*"?|'[^']*'?|[^\s"']+)/g;
const ELEMENT = /(<([A-Za-z][\w:.-]{0,60})(?:\s[^<>]{0,200})?>)([^<>]{1,500})(?=<)/g;
const SENTENCE = /\b(([A-Za-z][\w-]{1,60})\s(?:is|was|to|as)\s{1,3})["']?([^\s"'<>]{1,200})/g;
const VALUE = /"(?:[^"\\]|\\.)*"?|\\{1,31}"[^"]*"?|'(?:[^'\\]|\\.)*'?|[^\s,;&"'{}[\]()]+/y;
/** What follows `password:` in prose is a word. */
const LIKE_A_SECRET = /\d|^.{20}/;
/** Headers whose value is a secret to its end, whatever its scheme is. */
const HEADER = new RegExp(
  /\b((?:proxy-)?authorization|(?:set-)?cookie)(\s{0,3}:\s{0,3})(?!(?:basic|bearer)\s)/.source +
    /([^\s"'][^\r\n"'\\]*)(?:"[^"\r\n]*"[^"\r\n]*)*/.source,
  "gi",
);
const BEARER = /\b(bearer|basic)\s+[\w.~+/=-]{8,}/gi;
const JWT = /\beyJ[\w-]{6,}\.[\w-]{2,}\.[\w-]*/g;

/**
 * A text without what its own words call a secret: a link's user and password, its signature, `password=…`, a token.
 */
export function hideSecrets(text: string): string {
  if (!/[@=:<]|--?[a-z]|\s(?:is|was|to|as)\s|bearer|basic|eyJ/i.test(text)) return text;
  const safe = text
    .replace(USER_INFO, `$1${HIDDEN}@`)
    .replace(JWT, HIDDEN)
    .replace(HEADER, `$1$2${HIDDEN}`)
    .replace(BEARER, `$1 ${HIDDEN}`)
    .replace(PARAMETER, (whole, begin: string, name: string) =>
      isSecretName(decoded(name)) ? `${begin}${name}=${HIDDEN}` : whole,
    );
  return hideAssigned(safe)
    .replace(OPTION, (whole, begin: string, name: string) => (isSecretName(name) ? `${begin}${HIDDEN}` : whole))
    .replace(ELEMENT, (whole, begin: string, name: string, value: string) =>
      isSecretName(name) && value.trim() !== "" ? `${begin}${HIDDEN}` : whole,
    )
    .replace(SENTENCE, (whole, begin: string, name: string, value: string) =>
      isSecretName(name) && /\d/.test(value) && !value.startsWith(HIDDEN) ? `${begin}${HIDDEN}` : whole,
    );
}

function hideAssigned(text: string): string {
  let shown = "";
  let done = 0;
  for (const { 0: whole, 1: quote, 2: name, 3: between, index } of text.matchAll(ASSIGNMENT)) {
    if (index < done || !isSecretName(name)) continue;
    VALUE.lastIndex = index + whole.length;
    const value = VALUE.exec(text)?.[0] ?? "";
    const around = /^["']/.test(value) ? value[0] : "";
    const prose = quote === "" && between.includes(":") && around === "";
    if (value === "" || value.includes(HIDDEN) || (prose && !LIKE_A_SECRET.test(value))) continue;
    shown += `${text.slice(done, index)}${whole}${around}${HIDDEN}${around}`;
    done = index + whole.length + value.length;
  }
  return shown + text.slice(done);
}

/** A text with its URL escapes read, as far as they can be. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text.replace(/%([0-7][0-9a-f])/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  }
}
