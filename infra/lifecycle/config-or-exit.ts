import { UsageError } from "../../schemas/errors.js";
import { unknownSettings } from "../config/unknown-settings.js";
import { readConfig, type Config } from "../config/config.js";

/** The configuration, for a role's first line; a wrong setting ends the process with one line that names it. */
export function configOrExit(): Config {
  for (const line of unknownSettings()) process.stderr.write(`${line}\n`);
  try {
    return readConfig();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}
