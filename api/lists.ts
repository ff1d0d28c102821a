import { Type } from "@sinclair/typebox";
import { HttpProblem } from "./plugins/errors.js";

/** How every list is asked for. */
export function listFields(most: number, usual: number) {
  return {
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: most, default: usual, description: `Entries in one answer, up to ${most}.` }),
    ),
    cursor: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 500,
        description: "next_cursor of the previous answer: the list continues after it.",
      }),
    ),
  };
}

/** The orders of a list, the usual one first; with a minus, the greatest first. */
export function sortField<const Orders extends readonly [string, ...string[]]>(orders: Orders) {
  return Type.Optional(
    Type.Union(
      orders.map((order) => Type.Literal(order as Orders[number])),
      { default: orders[0], description: "The order; with a minus, descending." },
    ),
  );
}

/** What every list's answer says of the rest. */
export const listAnswerFields = {
  total: Type.Integer({ minimum: 0, description: "The total, independent of the page." }),
  next_cursor: Type.Union([Type.String(), Type.Null()], {
    description: "The value of cursor for the next page; null: this is the last one.",
  }),
};

/**
 * One page of a list that is in memory, sorted already. @throws HttpProblem 400 for a cursor whose entry isn't in the
 * list
 */
export function pageOf<Item>(
  items: readonly Item[],
  idOf: (item: Item) => string,
  { limit, cursor }: { limit: number; cursor?: string | undefined },
): { page: Item[]; total: number; next_cursor: string | null } {
  let from = 0;
  if (cursor !== undefined) {
    const [id] = readCursor(cursor, ["string"]) as [string];
    from = items.findIndex((item) => idOf(item) === id) + 1;
    if (from === 0) throw badCursor("its entry is not in this list (any more): begin again without it");
  }
  const page = items.slice(from, from + limit);
  return {
    page,
    total: items.length,
    next_cursor: from + limit < items.length ? cursorOf(idOf(page[page.length - 1])) : null,
  };
}

/** A place in a list, as callers pass it on without looking into it. */
export function cursorOf(...values: (string | number)[]): string {
  return Buffer.from(JSON.stringify(values)).toString("base64url");
}

/** @throws HttpProblem 400 for what `cursorOf` has not made for values of these types */
export function readCursor(cursor: string, types: readonly ("string" | "number")[]): (string | number)[] {
  let values: unknown;
  try {
    values = JSON.parse(Buffer.from(cursor, "base64url").toString("utf8"));
  } catch {
    values = null;
  }
  const fits =
    Array.isArray(values) &&
    values.length === types.length &&
    values.every((value, i) => typeof value === types[i] && (typeof value !== "number" || Number.isFinite(value)));
  if (!fits) throw badCursor("is not a next_cursor of this list");
  return values as (string | number)[];
}

function badCursor(message: string): HttpProblem {
  return new HttpProblem("invalid_request", `cursor: ${message}`, {
    errors: [{ in: "query", field: "cursor", code: "cursor", message }],
  });
}
