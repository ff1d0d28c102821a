/**
 * What the symbols of an enum stand for. Protocol Buffers' customary prefix, the enum's own name, is no part of it:
 * `CURRENCY_EUR` of the enum `Currency` (or `CurrencyCode`) is EUR. Where two symbols would become one, none is
 * changed.
 *
 * @param name of the enum, with or without what it stands in
 */
export function bareSymbols(name: string, symbols: readonly string[]): readonly string[] {
  const parts = name.split(".");
  const words = wordsOf(parts.at(-1) ?? "");
  const full = words.join("_");
  const whole = [
    ...(parts.length > 1 ? [`${wordsOf(parts.at(-2) ?? "").join("_")}_${full}_`] : []),
    `${full}_`,
    `${words.join("")}_`,
  ];
  // A shorter one may be part of what the symbols say, unless all have it.
  const shorter = words
    .slice(1)
    .map((_, count) => `${words.slice(0, count + 1).join("_")}_`)
    .filter((prefix) => symbols.every((symbol) => symbol.startsWith(prefix)));
  const prefixes = [...whole, ...shorter.reverse()];
  const bare = symbols.map((symbol) => {
    const prefix = prefixes.find(
      (candidate) => symbol.startsWith(candidate) && /^[A-Za-z0-9]/.test(symbol.slice(candidate.length)),
    );
    return prefix === undefined ? symbol : symbol.slice(prefix.length);
  });
  return new Set(bare).size === new Set(symbols).size ? bare : symbols;
}

function wordsOf(name: string): string[] {
  return name
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replace(/([A-Z])([A-Z][a-z])/g, "$1_$2")
    .toUpperCase()
    .split("_")
    .filter((word) => word !== "");
}
