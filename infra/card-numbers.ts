const CARD = "[card number]";

/** The lengths of card numbers (ISO/IEC 7812). */
const LEAST_DIGITS = 13;
export const MOST_DIGITS = 19;
/** Digits that may be written in groups. */
const DIGIT_RUN = /\d(?:[ -]?\d){12,}/g;

/** What the large networks' numbers begin with, and how long they are; for numbers inside longer runs of digits. */
const NETWORKS: readonly (readonly [begin: RegExp, digits: number])[] = [
  [/^(?:4|5[1-5]|2[2-7]|6)/, 16],
  [/^3[47]/, 15],
  [/^3[068]/, 14],
];

/**
 * A text without the card numbers in it: 13 to 19 digits, also in groups, that pass Luhn's check; and, inside a longer
 * run of digits, whatever passes it and looks like a number of one of the large networks.
 */
export function maskCardNumbers(text: string): string {
  return text.replace(DIGIT_RUN, (run) => {
    const at: number[] = [];
    for (let i = 0; i < run.length; i++) if (run[i] >= "0" && run[i] <= "9") at.push(i);
    const digits = run.replace(/[ -]/g, "");
    if (digits.length <= MOST_DIGITS && passesLuhn(digits)) return CARD;
    let masked = "";
    let done = 0;
    for (let from = 0; from + LEAST_DIGITS <= digits.length; ) {
      const length = cardLengthAt(digits, from);
      if (length === 0) from++;
      else {
        masked += run.slice(done, at[from]) + CARD;
        done = at[from + length - 1] + 1;
        from += length;
      }
    }
    return masked + run.slice(done);
  });
}

/** How many digits from here on are a card number of a large network; 0: none. */
function cardLengthAt(digits: string, from: number): number {
  for (const [begin, length] of NETWORKS) {
    const candidate = digits.slice(from, from + length);
    if (candidate.length === length && begin.test(candidate) && passesLuhn(candidate)) return length;
  }
  return 0;
}

/** The check digit of ISO/IEC 7812. */
function passesLuhn(digits: string): boolean {
  let sum = 0;
  for (let i = 0; i < digits.length; i++) {
    const digit = digits.charCodeAt(digits.length - 1 - i) - 48;
    const weighed = i % 2 === 0 ? digit : digit * 2;
    sum += weighed > 9 ? weighed - 9 : weighed;
  }
  return sum % 10 === 0;
}
