/** Longer ones are no amounts of anything; and a number of millions of digits would cost seconds. */
const MOST_BYTES = 128;
const MOST_SCALE = 400;
const EXACT = 2n ** 53n;
/** Powers of ten that a double holds exactly. */
const POWERS = Array.from({ length: 23 }, (_, i) => 10 ** i);

/** Whether a schema's scale is one that can be read. */
export function isScale(scale: unknown): scale is number {
  return Number.isInteger(scale) && Math.abs(scale as number) <= MOST_SCALE;
}

/**
 * The number nearest to a decimal: unscaled two's complement bytes, most significant first (Avro's and Connect's
 * `decimal`), divided by ten to the power of `scale`. The same as of its decimal text; NaN where it is absurdly long.
 */
export function decimalOf(bytes: Uint8Array, at: number, length: number, scale: number): number {
  if (length > MOST_BYTES || !isScale(scale)) return Number.NaN;
  if (length <= 6) {
    let value = 0;
    for (let i = 0; i < length; i++) value = value * 256 + bytes[at + i];
    if (length > 0 && bytes[at] >= 0x80) value -= 256 ** length;
    if (scale >= 0 && scale < POWERS.length) return value / POWERS[scale];
    return Number(`${value}e${-scale}`);
  }
  let value = 0n;
  for (let i = 0; i < length; i++) value = (value << 8n) | BigInt(bytes[at + i]);
  if (bytes[at] >= 0x80) value -= 1n << BigInt(length * 8);
  if (value > -EXACT && value < EXACT && scale >= 0 && scale < POWERS.length) return Number(value) / POWERS[scale];
  return Number(`${value}e${-scale}`);
}

const DECIMAL_TEXT = /^[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,4})?$/;

/** The number of a decimal text; NaN: it is none. */
export function decimalOfText(text: string): number {
  return DECIMAL_TEXT.test(text) ? Number(text) : Number.NaN;
}
