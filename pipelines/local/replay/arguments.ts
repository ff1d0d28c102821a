import { InvalidArgumentError } from "commander";

/** A number of transactions a second. @throws InvalidArgumentError for commander */
export function parseRate(text: string): number {
  const rate = Number(text);
  if (!(rate > 0 && rate <= 1e6))
    throw new InvalidArgumentError("It must be a number of transactions a second, over 0 and up to a million.");
  return rate;
}

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** What a timer can count. */
const LONGEST_MS = 2 ** 31 - 1;

/** "60s", "5m", "1.5h" or "500ms" in milliseconds. @throws InvalidArgumentError for commander */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text.trim());
  const ms = match === null ? Number.NaN : Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS];
  if (!(ms >= 1 && ms <= LONGEST_MS))
    throw new InvalidArgumentError("It must be a time such as 60s, 5m or 1h, up to 24 days.");
  return ms;
}
