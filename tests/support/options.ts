import { parseArgs, type ParseArgsConfig } from "node:util";
import { UsageError } from "../../schemas/errors.js";

type Options = NonNullable<ParseArgsConfig["options"]>;
type Values<T extends Options> = ReturnType<typeof parseArgs<{ options: T }>>["values"];

/**
 * A tool's options. With --help it prints how to call it and ends the process. @throws UsageError one line, with how to
 * call it
 */
export function readOptions<T extends Options>(options: T, usage: string): Values<T> {
  if (process.argv.includes("--help") || process.argv.includes("-h")) {
    process.stdout.write(`${usage}\n`);
    process.exit(0);
  }
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    throw new UsageError("bad_option", `${(error as Error).message.split(". ")[0]}: ${usage}`);
  }
}
