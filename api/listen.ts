import type { FastifyInstance } from "fastify";
import { UsageError } from "../schemas/errors.js";

/** Listens, and says where. @throws UsageError `port_taken`, `bad_address` */
export async function listen(app: FastifyInstance, { host, port }: { host: string; port: number }): Promise<string> {
  try {
    return await app.listen({ host, port });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EADDRINUSE") throw new UsageError("port_taken", `PORT ${port} on ${host} is taken by another process: stop it, or set PORT to a free one`, { cause: error });
    if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") throw new UsageError("bad_address", `HOST ${host} is no address of this machine`, { cause: error });
    if (code === "EACCES") throw new UsageError("bad_address", `PORT ${port} may not be used by this user`, { cause: error });
    throw error;
  }
}
