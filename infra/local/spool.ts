import { randomUUID } from "node:crypto";
import { createWriteStream, existsSync, openSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import type { Writable } from "node:stream";

/** Room that a folder has to have beside twice what a body is known to bring. */
const SPARE_BYTES = 256 * 2 ** 20;

/** A file of rows on their way into the engine. */
export interface Spool {
  /** Where this process, and only this one, finds it. */
  path: string;
  /** Takes the rows; ending it leaves the file. */
  rows: Writable;
  remove(): Promise<void>;
}

/**
 * Opens a spool in the first folder that has room, or in the last one. Where there is /proc the file loses its name at
 * once, so that nothing remains of it when this process is killed.
 *
 * @param expectedBytes what the body is known to bring; it may be packed, or 0 for unknown
 */
export function openSpool(folders: string[], expectedBytes: number): Spool {
  for (const [index, folder] of folders.entries()) {
    const file = join(folder, `fraudstream-spool-${randomUUID()}`);
    let fd: number;
    try {
      const { bavail, bsize } = statfsSync(folder);
      if (index < folders.length - 1 && bavail * bsize < 2 * expectedBytes + SPARE_BYTES) continue;
      fd = openSync(file, "wx", 0o600);
    } catch (error) {
      if (index < folders.length - 1) continue;
      throw error;
    }
    const unnamed = `/proc/self/fd/${fd}`;
    const hasProc = existsSync(unnamed);
    if (hasProc) rmSync(file);
    // The stream owns the descriptor: it closes it when it is destroyed, after a write that is under way, and not
    // before.
    const rows = createWriteStream(file, { fd, autoClose: false });
    return {
      path: hasProc ? unnamed : file,
      rows,
      remove: async () => {
        rows.destroy();
        if (!rows.closed) await new Promise<void>((resolve) => rows.once("close", () => resolve()));
        rmSync(file, { force: true });
      },
    };
  }
  throw new Error("there is no folder to spool to");
}
