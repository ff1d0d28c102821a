import { MAX_ID_BYTES, isLongId } from "../../schemas/ids.js";
import { parseTime } from "../../schemas/time-text.js";
import type { BadField } from "../plugins/bad-fields.js";

const MOST_LABEL_TIME = Date.UTC(2299, 11, 31);

/** What is wrong with a label beyond its form. @param path names it in a body: `[3].` */
export function badFieldsOfLabel(
  label: { transaction_id: string; card_id?: string; label_time?: string },
  path: string,
): BadField[] {
  const { transaction_id, card_id = "", label_time } = label;
  const bad = (field: string, message: string): BadField => ({
    in: "body",
    field: `${path}${field}`,
    code: "value",
    message,
  });
  const longIds = Object.entries({ transaction_id, card_id })
    .filter(([, id]) => isLongId(id))
    .map(([field]) => bad(field, `is longer than ${MAX_ID_BYTES} bytes`));
  const isTime = label_time === undefined || isLabelTime(parseTime(label_time));
  return isTime ? longIds : [bad("label_time", "is not a time in ISO 8601 with a zone, from 1970 to 2299"), ...longIds];
}

/** What the table of labels can hold. */
function isLabelTime(time: number): boolean {
  return time >= 0 && time <= MOST_LABEL_TIME;
}
