import { RequestError } from "../../schemas/errors.js";
import { planAttributes, type AttributePlan } from "./attribute-plan.js";
import { plainName, FURTHER_NAMES } from "./column-names.js";
import type { ColumnProfile, FileProfile } from "./column-profile.js";
import { planRoles, type RolePlan } from "./columns.js";
import type { ColumnReading, Dataset } from "./dataset.js";
import { labelMeanings, type LabelMeanings } from "./labels.js";
import type { DecimalMark } from "./numbers.js";
import type { ReadingOptions } from "./reading-options.js";
import { parseTimeFormat } from "./times/time-format.js";
import { IN_PARTS, readingOf, type TimeParts, type TimeReading } from "./times/time-reading.js";
import { quoted } from "./values.js";

/** How every cell of a file is to be read. */
export interface ReadingPlan {
  header: readonly string[];
  roles: RolePlan["roles"];
  timeParts: TimeParts;
  /** Null: times are made up. */
  time: TimeReading | null;
  amountMark: DecimalMark;
  labelOf: LabelMeanings;
  /** How words were understood, for the note. */
  labelHow: string | undefined;
  /** Of transactions that don't name theirs. */
  currency: string;
  attributes: readonly AttributePlan[];
  /** The transaction id was taken for one by a name such as `id`, which may be something else's. */
  weakId: boolean;
  notes: readonly string[];
  now: number;
  /** What was made of each column. @param leftOut why each of those was */
  describe: (dataset: Dataset, leftOut: ReadonlyMap<string, string>) => ColumnReading[];
}

/**
 * Decides how a file is read, by all of its cells and what the user says.
 *
 * @throws RequestError `bad_columns`, `csv_missing_column`, `csv_duplicate_column`, `csv_ambiguous`, `csv_bad_value`,
 *   `bad_labels`, `bad_time_format`
 */
export function planReading(
  file: string,
  profile: FileProfile,
  options: ReadingOptions,
  delimiter: string,
  currency: string,
): ReadingPlan {
  const { columns } = profile;
  const now = Date.now();
  const format = options.timeFormat === undefined ? undefined : parseTimeFormat(options.timeFormat);
  const roles = planRoles(file, columns, options.columns ?? {}, now);
  const { event_time, amount = [], label = [] } = roles.roles;
  const notes = [...roles.notes];
  const ambiguous = ambiguousMark(columns, delimiter);
  const labels = columns[label[0]];
  const plan = {
    header: columns.map(({ name }) => name),
    roles: roles.roles,
    timeParts: roles.timeParts,
    time:
      event_time === undefined
        ? null
        : roles.timeParts.year !== undefined
          ? IN_PARTS
          : readingOf(file, timeColumn(event_time, columns), {
              ...(format && { format }),
              ...(options.dayFirst !== undefined && { dayFirst: options.dayFirst }),
              knownLength: options.columns?.event_time === undefined ? (roles.known?.timeLength ?? null) : null,
              now,
            }),
    amountMark: amountMark(file, columns[amount[0]], options.decimal, ambiguous, notes),
    labelOf: labelMeanings(file, labels, options.labels ?? {}),
    attributes: planAttributes(file, columns, roles, options, ambiguous),
    currency,
    now,
  };
  notes.push(...damageNotes(columns, roles.roles));
  const id = roles.roles.transaction_id?.[0];
  const weakId =
    id !== undefined &&
    options.columns?.transaction_id === undefined &&
    FURTHER_NAMES.transaction_id.includes(plainName(columns[id].name));
  return {
    ...plan,
    labelHow: labelWords(labels, plan.labelOf),
    weakId,
    notes,
    describe: (dataset, leftOut) => columns.map((column, index) => described(column, index, roles, dataset, leftOut)),
  };
}

/** Of several columns, the one that shows in which order dates are. */
function timeColumn(indexes: readonly number[], columns: readonly ColumnProfile[]): ColumnProfile {
  return columns[indexes.find((index) => columns[index].times.dates > 0) ?? indexes[0]];
}

/** What `1,234` means where only other columns tell. */
function ambiguousMark(columns: readonly ColumnProfile[], delimiter: string): DecimalMark {
  const commas = columns.some(({ numbers }) => numbers.mark(".") === "," && numbers.isNumeric);
  const points = columns.some(({ numbers }) => numbers.point > 0 && numbers.isNumeric);
  // A comma can't separate both cells and decimals, unless cells are quoted.
  return commas || (delimiter === ";" && !points) ? "," : ".";
}

function amountMark(
  file: string,
  { name, numbers }: ColumnProfile,
  given: DecimalMark | undefined,
  ambiguous: DecimalMark,
  notes: string[],
): DecimalMark {
  const mark = given ?? numbers.mark(ambiguous);
  if (mark === null)
    throw new RequestError(
      "csv_ambiguous",
      `${file} line 1, column ${JSON.stringify(name)}: some numbers have a decimal comma, others a decimal point: ` +
        "write all in one way, or say --decimal comma or --decimal point",
    );
  if (given === undefined && numbers.undecided)
    notes.push(
      `WARNING: column ${JSON.stringify(name)}: numbers such as 1,234 are read ` +
        (mark === "."
          ? "as more than a thousand (--decimal comma: as 1.234)"
          : "with a decimal comma (--decimal point: as 1234)"),
    );
  return mark;
}

/** How the words of the label were understood; undefined: they are 0 and 1. */
function labelWords({ texts }: ColumnProfile, labelOf: LabelMeanings): string | undefined {
  if (texts === null) return undefined;
  const of = (value: number): string[] => [...texts.keys()].filter((text) => labelOf(text) === value);
  const [fraud, genuine] = [of(1), of(0)];
  if ([...fraud, ...genuine].every((text) => /^[01](\.0*)?$|^(true|false)$/i.test(text))) return undefined;
  return `fraud: ${fraud.map(quoted).join(", ")}; genuine: ${genuine.slice(0, 5).map(quoted).join(", ")}`;
}

/** Ids that may have been one before the file came here. */
function damageNotes(columns: readonly ColumnProfile[], roles: RolePlan["roles"]): string[] {
  return (["card_id", "merchant_id", "transaction_id"] as const).flatMap((role) =>
    (roles[role] ?? []).flatMap((index) => {
      const { name, damaged, shortened } = columns[index];
      const where = `column ${JSON.stringify(name)} (the ${role})`;
      return [
        ...(damaged.count === 0
          ? []
          : [
              `WARNING: ${where}: ${damaged.count} cells hold U+FFFD, the first on line ${damaged.line}: letters ` +
                "were lost before the file came here, and different ids may have become one",
            ]),
        ...(shortened.count === 0
          ? []
          : [
              `WARNING: ${where}: ${shortened.count} cells look like 4.5E+15, the first on line ${shortened.line}: a ` +
                "spreadsheet has cut off digits, and different ids may have become one",
            ]),
      ];
    }),
  );
}

function described(
  column: ColumnProfile,
  index: number,
  { roles, why }: RolePlan,
  dataset: Dataset,
  leftOut: ReadonlyMap<string, string>,
): ColumnReading {
  const { name, examples, numbers, empty } = column;
  const role = (Object.keys(roles) as (keyof typeof roles)[]).find((candidate) => roles[candidate]?.includes(index));
  const attribute = dataset.attributes.get(name);
  const operand = dataset.operands?.get(name);
  const reason = leftOut.get(name);
  const [taken_for, because] =
    role !== undefined
      ? [role, why[role] ?? ""]
      : reason === undefined && attribute !== undefined
        ? [
            `attribute (${attribute.type})`,
            attribute.type === "number" ? "its cells are numbers" : "its cells are a few texts",
          ]
        : operand === undefined
          ? ["left out", reason ?? ""]
          : [`for features only (${operand.type === "time" ? "date" : operand.type})`, reason ?? ""];
  return { name, taken_for, why: because, examples: [...examples], missing: Math.max(numbers.missing, empty) };
}
