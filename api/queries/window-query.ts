import { type Static, Type } from "@sinclair/typebox";
import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { DAY_MS } from "../../models/evaluation/stored-rows.js";
import type { BadField } from "../plugins/bad-fields.js";
import { HttpProblem } from "../plugins/errors.js";
import { newestEvent } from "./metrics.js";
import {
  type AskedWindow,
  askedWindow,
  DEFAULT_WINDOW,
  resolveWindow,
  type TimeWindow,
  type WindowQuery,
} from "./time-window.js";

const Time = Type.String({ format: "date-time", maxLength: 40 });

/** How queries name a window of event time. */
export const windowFields = {
  window: Type.Optional(
    Type.String({
      maxLength: 60,
      description:
        `An ISO 8601 duration in event time that ends now; ${DEFAULT_WINDOW} when nothing is given. For older ` +
        "payments give from and to; newest_event in the answer says how far they have come.",
    }),
  ),
  from: Type.Optional({ ...Time, description: "Instead of a window: the first event time, ISO 8601 with a zone." }),
  to: Type.Optional({ ...Time, description: "With from: event times before this one; default: now." }),
};

export const LabelsChoice = Type.Union([Type.Literal("matured"), Type.Literal("explicit")]);
export type LabelsChoice = Static<typeof LabelsChoice>;

/** How queries say what an unlabelled transaction counts as. */
export const labelsField = {
  labels: Type.Optional({
    ...LabelsChoice,
    default: "matured",
    description:
      "matured: a transaction without a label counts as genuine once it is LABEL_MATURITY_DAYS old; younger " +
      "ones are left out. explicit: only labelled transactions.",
  }),
};

const orNullTime = (description: string) =>
  Type.Union([Type.String({ format: "date-time" }), Type.Null()], { description });

/** The window as answers show it. */
export const shownWindowFields = {
  from: Type.String({ format: "date-time", description: "The beginning of the window." }),
  to: Type.String({ format: "date-time", description: "Its end: the present, or the `to` that was asked for." }),
  newest_event: orNullTime("Event time of the newest prediction, in this window or not; null: nothing was scored yet."),
};

export interface ResolvedWindow {
  window: TimeWindow;
  /** When it was asked for, epoch milliseconds. */
  now: number;
  shown: { from: string; to: string; newest_event: string | null };
}

/** The window that a query asks for. @throws HttpProblem 400 naming each bad field */
export async function windowOf(
  clickhouse: ClickHouseReader,
  query: WindowQuery,
  now = Date.now(),
): Promise<ResolvedWindow> {
  const asked = askedWindow(query);
  if (Array.isArray(asked)) throw invalidQuery(asked);
  const newest = await newestEvent(clickhouse);
  const window = resolveWindow(asked, now);
  return {
    window,
    now,
    shown: {
      ...shownWindow(asked, window, now),
      newest_event: newest === null ? null : new Date(newest).toISOString(),
    },
  };
}

/** Before when an unlabelled transaction counts as genuine, epoch milliseconds; null: never. */
export function maturedBefore(labels: LabelsChoice, now: number, maturityDays: number): number | null {
  return labels === "explicit" ? null : now - maturityDays * DAY_MS;
}

/** A window that ends now is shown as it was asked for: its length is the duration. */
function shownWindow(asked: AskedWindow, { from, to }: TimeWindow, now: number): { from: string; to: string } {
  const iso = (time: number): string => new Date(time).toISOString();
  if ("from" in asked) return { from: iso(from), to: asked.to === null ? iso(Math.max(from, now)) : iso(to) };
  return { from: iso(from - 1), to: iso(now) };
}

export function invalidQuery(errors: BadField[]): HttpProblem {
  return new HttpProblem("invalid_request", errors.map(({ field, message }) => `${field}: ${message}`).join("; "), {
    errors,
  });
}
