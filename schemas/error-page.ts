import { ERROR_GROUPS } from "./error-codes.js";
import type { ErrorGroup, ErrorRow, Place } from "./error-codes/row.js";

const HEAD = `# Error codes

<!-- Written by \`npm run errors\` from schemas/error-codes. Do not edit. -->

Each error has a code that stays as it is, so that programs can compare it. It stands in the \`code\` of an HTTP
problem, in the header \`code\` of a dead letter, in the \`error.code\` of a training job and in the \`code\` of a log
line. The message beside it is for people, and may change. Retriable means that the same may succeed later without a
change.

In brackets stands where a code is met: the HTTP statuses; the step of a dead letter; _job_, the result of a training
job; _exit_, a command or role that prints the message and ends with exit code 1; _log_.

Codes of conditions (\`fraudstream_condition\`, \`/health/ready\`) are other ones: their messages say what to do.
`;

/** The page that lists every error code, in Markdown. */
export function errorPage(): string {
  return [HEAD, ...ERROR_GROUPS.map(section)].join("\n");
}

function section({ title, about, codes }: ErrorGroup): string {
  const items = Object.entries(codes)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, row]) => itemOf(code, row));
  return [`## ${title}`, "", ...wrapped(about, ""), "", ...items.flatMap((item) => wrapped(item, "  ")), ""].join("\n");
}

function itemOf(code: string, row: ErrorRow): string {
  const retriable = row.retriable === true ? "yes" : (row.retriable ?? "no");
  return `- \`${code}\` (${whereOf(row)}; retriable: ${retriable}): ${row.meaning} _What to do:_ ${row.remedy}`;
}

/** Lines of at most 120 columns, the second and further ones indented. */
function wrapped(text: string, indent: string): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines[lines.length - 1];
    if (line === "") lines[lines.length - 1] = word;
    else if (line.length + 1 + word.length > 120) lines.push(indent + word);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines;
}

function whereOf({ status, otherStatuses = [], retriable, places = [] }: ErrorRow): string {
  // A retriable error that reaches a route is a 503, whichever it is.
  const told =
    status === undefined &&
    otherStatuses.length === 0 &&
    retriable === true &&
    !places.includes("job") &&
    !places.includes("exit");
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
