import { lookup as systemLookup } from "node:dns/promises";
import { request as httpRequest, type ClientRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import type { LookupFunction } from "node:net";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";
import type { AddressPolicy } from "./addresses.js";

export interface ResolvedAddress {
  address: string;
  family: number;
}
/** All addresses of a host name. */
export type Resolve = (hostname: string) => Promise<ResolvedAddress[]>;

export const systemResolve: Resolve = (hostname) => systemLookup(hostname, { all: true, verbatim: true });

/**
 * A link that may be followed: http or https, no credentials in it.
 *
 * @param base of a relative link
 * @throws FraudstreamError `download_bad_url`; its message doesn't quote the link, which may hold a secret
 */
export function checkedUrl(link: string, base?: URL): URL {
  const bad = (problem: string): FraudstreamError =>
    new FraudstreamError("download_bad_url", `the ${base === undefined ? "link" : "redirect"} ${problem}`);
  if (!URL.canParse(link, base?.href)) throw bad("is not a URL");
  const url = new URL(link, base);
  if (url.protocol !== "http:" && url.protocol !== "https:") throw bad(`is neither http nor https but ${url.protocol}`);
  if (url.username !== "" || url.password !== "")
    throw bad("holds a user name or a password; links with credentials are not followed");
  return url;
}

/**
 * Sends one GET, follows nothing.
 *
 * The host's addresses are checked and then connected to without being looked up again, so that another DNS answer a
 * moment later (rebinding) changes nothing. One address that isn't allowed among them is enough to refuse the host.
 *
 * @throws FraudstreamError `download_private_address`, `download_unreachable`
 */
export async function requestOnce(
  url: URL,
  { policy, resolve, signal }: { policy: AddressPolicy; resolve: Resolve; signal: AbortSignal },
): Promise<IncomingMessage> {
  // For an address in the URL itself, in any notation, no name is looked up.
  const port = Number(url.port) || (url.protocol === "https:" ? 443 : 80);
  const literal = /^\[.*\]$/.test(url.hostname)
    ? url.hostname.slice(1, -1)
    : /^[\d.]+$/.test(url.hostname)
      ? url.hostname
      : null;
  if (literal !== null && !policy(literal, port)) throw refused(url.hostname);
  const options: RequestOptions = {
    signal,
    lookup: checkedLookup((address) => policy(address, port), resolve),
    // A connection of its own: one that is kept alive might have been opened under another check.
    agent: false,
    headers: {
      accept: "text/csv, application/vnd.apache.parquet, application/gzip, */*;q=0.5",
      "accept-encoding": "gzip, identity",
      "user-agent": "fraudstream",
    },
  };
  try {
    return await new Promise<IncomingMessage>((resolveWith, reject) => {
      const request: ClientRequest = (url.protocol === "https:" ? httpsRequest : httpRequest)(
        url,
        options,
        (response) => {
          // The body's errors are its reader's.
          response.on("error", () => {});
          resolveWith(response);
        },
      );
      request.on("error", reject);
      request.end();
    });
  } catch (error) {
    if (error instanceof FraudstreamError) throw error;
    throw new FraudstreamError(
      "download_unreachable",
      `${url.host} could not be reached: ${messageOf(error) || "no connection"}`,
      { cause: error },
    );
  }
}

function checkedLookup(allowed: (address: string) => boolean, resolve: Resolve): LookupFunction {
  return (hostname, options, callback) => {
    const answer = async (): Promise<void> => {
      const found = await resolve(hostname);
      if (!found.every(({ address }) => allowed(address))) throw refused(hostname);
      if (found.length === 0) throw new Error(`${hostname} has no address`);
      if (options.all === true) callback(null, found);
      else callback(null, found[0].address, found[0].family);
    };
    answer().catch((error: unknown) => callback(error instanceof Error ? error : new Error(messageOf(error)), []));
  };
}

/**
 * The message does not contain the address of a name: the sender of the link must not learn addresses of an internal
 * network.
 */
function refused(hostname: string): FraudstreamError {
  return new FraudstreamError(
    "download_private_address",
    `${hostname} is, or has, a private, local or otherwise special address; links to such are not followed ` +
      "unless DATASETS_ALLOW_PRIVATE allows it",
  );
}
