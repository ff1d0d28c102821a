import ipaddr from "ipaddr.js";

type Address = ReturnType<typeof ipaddr.parse>;

/** Says whether an IP address may be connected to. */
export type AddressPolicy = (address: string) => boolean;

const GLOBAL_UNICAST_V6 = ipaddr.parseCIDR("2000::/3");

/**
 * Public addresses, and those of some networks.
 *
 * @param allowed true: any address; else networks in CIDR notation, `10.1.0.0/16`, whatever is special about them
 */
export function addressPolicy(allowed: boolean | readonly string[]): AddressPolicy {
  if (allowed === true) return () => true;
  const networks = (allowed === false ? [] : allowed).map((network) => ipaddr.parseCIDR(network));
  return (text) => {
    if (!ipaddr.isValid(text)) return false;
    const address = ipaddr.parse(text);
    return isPublic(address) || networks.some(([network, bits]) => address.kind() === network.kind() && address.match(network, bits));
  };
}

/** Whether a text is a network in CIDR notation. */
export function isNetwork(text: string): boolean {
  return ipaddr.isValidCIDR(text);
}

/**
 * Not private, loopback, link-local, multicast, unique-local, reserved or otherwise special (RFC 6890), and no address that
 * holds another one (IPv4-mapped, 6to4, NAT64, Teredo). ipaddr.js takes what it has no range for, such as `::7f00:1`, for
 * unicast; IPv6 that is routed lies in 2000::/3.
 */
function isPublic(address: Address): boolean {
  return address.range() === "unicast" && (address.kind() === "ipv4" || address.match(...GLOBAL_UNICAST_V6));
}
