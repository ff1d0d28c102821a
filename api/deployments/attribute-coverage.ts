import { Type, type Static } from "@sinclair/typebox";
import type { ClickHouseReader } from "../../infra/clickhouse/client.js";
import { slotsOf, type FeatureSpec } from "../../models/features/plan.js";

/** How many of the last payments are examined for attributes, and how long ClickHouse may take. */
const LAST_PAYMENTS = 1_000;
const WITHIN_MS = 2_000;
const MOST_WARNINGS = 10;

export const CoverageSchema = Type.Object(
  {
    payments: Type.Integer({ description: "How many of the last payments were examined." }),
    present: Type.Record(Type.String(), Type.Integer(), {
      description: "Of each attribute that the model reads: how many of those payments have it.",
    }),
  },
  {
    description:
      "The model's attributes in the last payments that are stored; null: there are none, the model reads " +
      "none, or ClickHouse did not answer.",
  },
);
export type Coverage = Static<typeof CoverageSchema>;

export interface AttributeCoverage extends Coverage {
  /** Those without a default in the manifest: the model gets NaN where they are absent. */
  withoutDefault: ReadonlySet<string>;
}

/** How many of the last stored payments have each attribute that a model reads; null: that isn't known. Never fails. */
export async function attributeCoverage(
  clickhouse: ClickHouseReader,
  features: readonly FeatureSpec[],
): Promise<AttributeCoverage | null> {
  const attributes = features.flatMap((feature) =>
    slotsOf([[feature]]).flatMap(({ attribute, equals, field }) =>
      field === true ? [] : [{ name: attribute, missing: equals === undefined && feature.default === null }],
    ),
  );
  if (attributes.length === 0) return null;
  const names = [...new Set(attributes.map(({ name }) => name))];
  try {
    const rows = await clickhouse.query<{ name: string; present: number; payments: number }>(
      `SELECT name, toUInt32(countIf(mapContains(numbers, name) OR mapContains(texts, name) OR mapContains(flags,
        name))) AS present, toUInt32(count()) AS payments
       FROM (SELECT numbers, texts, flags FROM transactions ORDER BY event_time DESC LIMIT ${LAST_PAYMENTS}) ARRAY JOIN
         {names:Array(String)} AS name GROUP BY name`,
      { names },
      { signal: AbortSignal.timeout(WITHIN_MS) },
    );
    if (rows.length === 0) return null;
    const present = Object.fromEntries(rows.map((row) => [row.name, row.present]));
    return {
      payments: rows[0].payments,
      present,
      withoutDefault: new Set(attributes.filter(({ missing }) => missing).map(({ name }) => name)),
    };
  } catch {
    return null;
  }
}

/** The answer to a caller who enables a model. */
export function coverageView(coverage: AttributeCoverage | null): { attributes: Coverage | null; warnings: string[] } {
  if (coverage === null) return { attributes: null, warnings: [] };
  const { payments, present, withoutDefault } = coverage;
  const warnings = Object.entries(present)
    .filter(([name, count]) => count < payments && withoutDefault.has(name))
    .map(
      ([name, count]) =>
        `of the last ${payments} payments ${count} have the attribute ${JSON.stringify(name)}, for which the ` +
        "manifest has no default: the others give the model a missing value",
    );
  return { attributes: { payments, present }, warnings: warnings.slice(0, MOST_WARNINGS) };
}
