import { ERROR_GROUPS } from "./error-codes.js";
import type { ErrorGroup, ErrorRow, Place } from "./error-codes/row.js";

const HEAD = `# Error codes

<!-- Written by \`npm run errors\` from schemas/error-codes. Do not edit. -->

Each error has a code that stays as it is, so that programs can compare it. It stands in the \`code\` of an HTTP problem, in the
header \`code\` of a dead letter, in the \`error.code\` of a training job and in the \`code\` of a log line. The message beside it is for
people, and may change. Retriable means that the same may succeed later without a change.

*Where* names the HTTP statuses; the step of a dead letter; *job*, the result of a training job; *exit*, a command or role that
prints the message and ends with exit code 1; *log*.

Codes of conditions (\`fraudstream_condition\`, \`/health/ready\`) are other ones: their messages say what to do.
`;

/** The page that lists every error code, in Markdown. */
export function errorPage(): string {
  return [HEAD, ...ERROR_GROUPS.map(section)].join("\n");
}

function section({ title, about, codes }: ErrorGroup): string {
  const rows = Object.entries(codes).sort(([a], [b]) => (a < b ? -1 : 1)).map(([code, row]) => line(code, row));
  return [`## ${title}`, "", about, "", "| code | where | retriable | meaning | what to do |", "|---|---|---|---|---|", ...rows, ""].join("\n");
}

function line(code: string, row: ErrorRow): string {
  const retriable = row.retriable === true ? "yes" : (row.retriable ?? "no");
  return `| \`${code}\` | ${whereOf(row)} | ${retriable} | ${row.meaning} | ${row.remedy} |`;
}

function whereOf({ status, otherStatuses = [], retriable, places = [] }: ErrorRow): string {
  // A retriable error that reaches a route is a 503, whichever it is.
  const told = status === undefined && otherStatuses.length === 0 && retriable === true && !places.includes("job") && !places.includes("exit");
  const statuses = [...(status === undefined ? [] : [status]), ...otherStatuses, ...(told ? [503] : [])];
  const steps = places.filter(isStep);
  return [
    ...(statuses.length === 0 ? [] : [statuses.join(", ")]),
    ...(steps.length === 0 ? [] : [`dead letter (${steps.join(", ")})`]),
    ...places.filter((place) => !isStep(place)),
  ].join("; ");
}

function isStep(place: Place): boolean {
  return place !== "job" && place !== "exit" && place !== "log";
}
