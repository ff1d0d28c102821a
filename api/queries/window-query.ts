import { type Static, Type } from "@sinclair/typebox";
import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { DAY_MS } from "../../models/evaluation/stored-rows.js";
import type { BadField } from "../plugins/bad-fields.js";
import { HttpProblem } from "../plugins/errors.js";
import { newestEvent } from "./metrics.js";
import { type AskedWindow, askedWindow, DEFAULT_WINDOW, resolveWindow, type TimeWindow, type WindowQuery } from "./time-window.js";

const Time = Type.String({ format: "date-time", maxLength: 40 });

/** How queries name a window of event time. */
export const windowFields = {
  window: Type.Optional(Type.String({ maxLength: 60, description: `An ISO 8601 duration in event time that ends at the newest event, which it contains; ${DEFAULT_WINDOW} when nothing is given.` })),
  from: Type.Optional({ ...Time, description: "Instead of a window: the first event time, ISO 8601 with a zone." }),
  to: Type.Optional({ ...Time, description: "With from: event times before this one; up to the newest event when it isn't given." }),
};

export const LabelsChoice = Type.Union([Type.Literal("matured"), Type.Literal("explicit")]);
export type LabelsChoice = Static<typeof LabelsChoice>;

/** How queries say what an unlabelled transaction counts as. */
export const labelsField = {
  labels: Type.Optional({
    ...LabelsChoice,
    default: "matured",
    description: "matured: a transaction without a label counts as genuine once it is LABEL_MATURITY_DAYS older than the newest event, younger ones are left out. explicit: labelled ones only.",
  }),
};

const orNullTime = (description: string) => Type.Union([Type.String({ format: "date-time" }), Type.Null()], { description });

/** The window as answers show it. */
export const shownWindowFields = {
  from: orNullTime("The beginning of the window; null: nothing was scored yet."),
  to: orNullTime("Its end: the newest event, or the `to` that was asked for."),
};

export interface ResolvedWindow {
  window: TimeWindow;
  /** Event time of the newest prediction, epoch milliseconds; null: there is none, and nothing in the window. */
  newest: number | null;
  shown: { from: string | null; to: string | null };
}

/** The window that a query asks for. @throws HttpProblem 400 naming each bad field */
export async function windowOf(clickhouse: ClickHouseReader, query: WindowQuery): Promise<ResolvedWindow> {
  const asked = askedWindow(query);
  if (Array.isArray(asked)) throw invalidQuery(asked);
  const newest = await newestEvent(clickhouse);
  const window = resolveWindow(asked, newest ?? 0);
  return { window, newest, shown: shownWindow(asked, window, newest) };
}

/** Before when an unlabelled transaction counts as genuine, epoch milliseconds; null: never. */
export function maturedBefore(labels: LabelsChoice, newest: number | null, maturityDays: number): number | null {
  return labels === "explicit" || newest === null ? null : newest - maturityDays * DAY_MS;
}

/** A window that ends at the newest event is shown as it was asked for: its length is the duration. */
function shownWindow(asked: AskedWindow, { from, to }: TimeWindow, newest: number | null): ResolvedWindow["shown"] {
  const iso = (time: number): string => new Date(time).toISOString();
  if ("from" in asked) return { from: iso(from), to: asked.to === null ? (newest === null ? null : iso(newest)) : iso(to) };
  return newest === null ? { from: null, to: null } : { from: iso(from - 1), to: iso(newest) };
}

export function invalidQuery(errors: BadField[]): HttpProblem {
  return new HttpProblem(400, "invalid_request", errors.map(({ field, message }) => `${field}: ${message}`).join("; "), { errors });
}
