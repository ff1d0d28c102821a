import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Type, type Static } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { UsageError } from "../../../schemas/errors.js";

/** How far the simulated payments have come. */
const SimulatedState = Type.Object({
  seed: Type.Integer({ minimum: 0 }),
  customers: Type.Integer({ minimum: 1 }),
  terminals: Type.Integer({ minimum: 2 }),
  /** When the simulated time began, epoch milliseconds. */
  began: Type.Number(),
  /** No transaction from this event time on was ever published. */
  until: Type.Number(),
  /** Every label of a transaction before this event time was published. */
  labelled_until: Type.Number(),
});
export type SimulatedState = Static<typeof SimulatedState>;

/** What `npm start` remembers in DATA_DIR/start.json. */
const StartState = Type.Object({
  format: Type.Literal(1),
  simulated: Type.Union([SimulatedState, Type.Null()]),
  /** Files that were replayed, by sha256. */
  datasets: Type.Record(Type.String(), Type.Object({ file: Type.String(), at: Type.String() })),
  /** What card ids are stored as: themselves, or pseudonyms by a key of this fingerprint. */
  card_ids: Type.Optional(Type.String()),
});
export type StartState = Static<typeof StartState>;

const NOTHING: StartState = { format: 1, simulated: null, datasets: {} };

/** Reads the state; what an empty DATA_DIR has when there is none. @throws UsageError `bad_start_state` */
export async function readStartState(dataDir: string): Promise<StartState> {
  const file = stateFile(dataDir);
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return structuredClone(NOTHING);
    throw error;
  }
  try {
    return Value.Parse(StartState, JSON.parse(text));
  } catch (cause) {
    throw new UsageError(
      "bad_start_state",
      `${file} is not what npm start wrote: remove it together with the topics that it speaks of, or use ` +
        "another DATA_DIR",
      { cause },
    );
  }
}

/** Writes it so that a crash leaves the old state or the new one. */
export async function writeStartState(dataDir: string, state: StartState): Promise<void> {
  const file = stateFile(dataDir);
  await mkdir(dirname(file), { recursive: true });
  const handle = await open(`${file}.new`, "w");
  try {
    await handle.writeFile(`${JSON.stringify(state, null, 2)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${file}.new`, file);
}

function stateFile(dataDir: string): string {
  return join(dataDir, "start.json");
}
