import ipaddr from "ipaddr.js";

type Address = ReturnType<typeof ipaddr.parse>;

/** Says whether an IP address may be connected to, at a port. */
export type AddressPolicy = (address: string, port: number) => boolean;

const GLOBAL_UNICAST_V6 = ipaddr.parseCIDR("2000::/3");
/**
 * Addresses that look public and lead into the operator's internal network: what clouds serve to their own machines
 * alone, and what ipaddr.js has no range for.
 */
const INTERNAL = [
  "168.63.129.16/32", // Azure: its agent, which has certificates and settings of the machine, and DNS
  "161.26.0.0/16",
  "166.8.0.0/14", // IBM Cloud: internal services
  "199.36.153.4/30",
  "199.36.153.8/30",
  "2600:2d00:2:1000::/64",
  "2600:2d00:2:2000::/64", // Google Cloud: APIs for machines inside
  "192.80.8.124/32", // Equinix Metal: metadata
  "2001::/23",
  "3fff::/20", // IETF protocol assignments; documentation (RFC 9637)
].map((network) => ipaddr.parseCIDR(network));

/**
 * Public addresses, and some others.
 *
 * @param allowed true: any address; else, whatever is special about them, networks in CIDR notation (`10.1.0.0/16`) and
 * single addresses with a port (`127.0.0.1:8080`, `[::1]:8080`), which allow nothing but that port
 */
export function addressPolicy(allowed: boolean | readonly string[]): AddressPolicy {
  if (allowed === true) return () => true;
  const exceptions = (allowed === false ? [] : allowed).map(exceptionOf);
  return (text, port) => {
    if (!ipaddr.isValid(text)) return false;
    const address = ipaddr.parse(text);
    return isPublic(address) || exceptions.some((exception) => exception?.(address, port) === true);
  };
}

/** Whether a text is a network in CIDR notation, or an address with a port. */
export function isException(text: string): boolean {
  return exceptionOf(text) !== null;
}

function exceptionOf(text: string): ((address: Address, port: number) => boolean) | null {
  if (ipaddr.isValidCIDR(text)) {
    const [network, bits] = ipaddr.parseCIDR(text);
    return (address) => address.kind() === network.kind() && address.match(network, bits);
  }
  const [, v6, v4, port] = /^(?:\[([^\]]+)\]|([\d.]+)):(\d{1,5})$/.exec(text) ?? [];
  if (port === undefined || Number(port) < 1 || Number(port) > 65_535) return null;
  const valid = v6 === undefined ? ipaddr.IPv4.isValidFourPartDecimal(v4) : ipaddr.IPv6.isValid(v6);
  if (!valid) return null;
  const only = ipaddr.parse(v6 ?? v4).toNormalizedString();
  return (address, asked) => asked === Number(port) && address.toNormalizedString() === only;
}

/**
 * Not private, loopback, link-local, multicast, unique-local, reserved or otherwise special (RFC 6890), and no address
 * that holds another one (IPv4-mapped, 6to4, NAT64, Teredo, ISATAP). ipaddr.js takes what it has no range for, such as
 * `::7f00:1`, for unicast; IPv6 that is routed lies in 2000::/3.
 */
function isPublic(address: Address): boolean {
  if (
    address.range() !== "unicast" ||
    INTERNAL.some(([network, bits]) => network.kind() === address.kind() && address.match(network, bits))
  )
    return false;
  return address.kind() === "ipv4" || (address.match(...GLOBAL_UNICAST_V6) && !isIsatap(address as ipaddr.IPv6));
}

/** `…:0:5efe:7f00:1` leads to the IPv4 address in its end (RFC 5214). */
function isIsatap({ parts }: ipaddr.IPv6): boolean {
  return (parts[4] & 0xfdff) === 0 && parts[5] === 0x5efe;
}
