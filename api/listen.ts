import type { FastifyInstance } from "fastify";
import { UsageError } from "../schemas/errors.js";

/** Listens, and says where. @throws UsageError `port_taken`, `bad_address` */
export async function listen(app: FastifyInstance, { host, port }: { host: string; port: number }): Promise<string> {
  try {
    return await app.listen({ host, port });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EADDRINUSE")
      throw new UsageError(
        "port_taken",
        `PORT ${port} on ${host} is taken by another process: stop it, or set PORT to a free one`,
        { cause: error },
      );
    if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
      throw new UsageError("bad_address", `HOST ${host} is not an address of this machine`, { cause: error });
    if (code === "EACCES")
      throw new UsageError("bad_address", `PORT ${port} may not be used by this user`, { cause: error });
    throw error;
  }
}

/** A deployment may keep its caller waiting for 30 s. */
const GRACE_MS = 35_000;

/** Takes no more requests, finishes those under way, and cuts off what isn't done in time. */
export async function stopListening(app: FastifyInstance, graceMs = GRACE_MS): Promise<void> {
  const cut = setTimeout(() => app.server.closeAllConnections(), graceMs);
  try {
    await app.close();
  } finally {
    clearTimeout(cut);
  }
}
