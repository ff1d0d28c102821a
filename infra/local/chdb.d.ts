/**
 * The part of the optional package `chdb` that the local ClickHouse server uses. Declared here, so that the project
 * also builds where the package (540 MB) was left out, as in containers.
 */
declare module "chdb" {
  export class Session {
    /** Opens a data path, or another connection to the one that this process has open. */
    constructor(path: string);
    queryAsync(
      sql: string,
      options?: { format?: string },
    ): Promise<{ bytes(): Uint8Array; rowsRead: number; bytesRead: number; elapsed: number }>;
    queryStream(sql: string, options: { format: string }): AsyncIterable<{ raw(): Uint8Array }>;
    close(): void;
  }
}
