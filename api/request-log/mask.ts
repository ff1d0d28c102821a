import { cardNumbersInOrders, LOOK_AHEAD, replaceSpans } from "../../infra/privacy/masking/card-numbers.js";
import { CARD_FIELD, type CardOf } from "../../infra/privacy/masking/masked-json.js";
import { escapeControls } from "../../infra/privacy/masking/masked-text.js";
import { decoded, HIDDEN, hideSecrets, isSecretName } from "../../infra/privacy/masking/secrets.js";

export { maskedJson, type CardOf } from "../../infra/privacy/masking/masked-json.js";

/** A request's URL for the request log. */
export function maskedUrl(url: string, most: number, cardOf: CardOf | null = null): string {
  const whole = url.slice(0, most + LOOK_AHEAD);
  const question = whole.indexOf("?");
  const path = question < 0 ? whole : whole.slice(0, question);
  const pairs =
    question < 0
      ? []
      : whole
          .slice(question + 1)
          .split("&")
          .map((pair) => shownPair(pair, cardOf));
  // A number may be spread over the parts of the path, or over parameters.
  const parts: (string | null)[] = path.split("/");
  const segmentCount = parts.length;
  const names = pairs.map(({ name, fixed }) => {
    parts.push(null, name, ...(fixed ? [null] : []));
    return parts.lastIndexOf(name);
  });
  parts.push(null, ...pairs.map(({ value, fixed }) => (fixed ? null : (value ?? ""))));
  const values = parts.length - pairs.length;
  // It may also begin in the path, or in a parameter's name, and go on in the values.
  const places = parts.map((_, i) => i);
  const onward = [
    ...places.slice(0, segmentCount),
    ...pairs.flatMap(({ fixed }, i) => (fixed ? [] : [names[i], values + i])),
  ];
  const spans = cardNumbersInOrders(parts, [onward, [...places.slice(0, segmentCount), ...places.slice(values)]]);
  const shown = (i: number): string => readable(replaceSpans(parts[i] ?? "", spans[i]));
  const segments = places.slice(0, segmentCount).map(shown).join("/");
  const query = pairs.map(({ value, fixed }, i) =>
    value === null ? shown(names[i]) : `${shown(names[i])}=${fixed ? value : shown(values + i)}`,
  );
  return `${segments}${question < 0 ? "" : `?${query.join("&")}`}`.slice(0, most);
}

/** A parameter as it is shown; `fixed` replaces any value. Null: there is no value. */
function shownPair(pair: string, cardOf: CardOf | null): { name: string; value: string | null; fixed: boolean } {
  const equals = pair.indexOf("=");
  if (equals < 0) return { name: pair, value: null, fixed: false };
  const [name, value] = [pair.slice(0, equals), pair.slice(equals + 1)];
  if (cardOf !== null && decoded(name) === CARD_FIELD) return { name, value: cardOf(decoded(value)), fixed: true };
  if (isSecretName(decoded(name))) return { name, value: HIDDEN, fixed: true };
  const safe = hideSecrets(decoded(value));
  return { name, value: safe === decoded(value) ? value : safe, fixed: false };
}

/** URL escapes read where all can be, for people who look at the log. */
function readable(text: string): string {
  try {
    return escapeControls(decodeURIComponent(text));
  } catch {
    return escapeControls(text);
  }
}
