import { RequestError } from "../../../../schemas/errors.js";

/** Code and message of the mistake that is found; empty: none is. */
export function reasonOf(run: () => unknown): [code: string, message: string] {
  try {
    run();
  } catch (error) {
    if (error instanceof RequestError) return [error.code, error.message];
    throw error;
  }
  return ["", "nothing is wrong"];
}
