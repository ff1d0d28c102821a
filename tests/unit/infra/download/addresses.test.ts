import { expect, test } from "vitest";
import { addressPolicy } from "../../../../infra/download/addresses.js";
import { UsageError } from "../../../../schemas/errors.js";
import { readConfig } from "../../../../infra/config/config.js";

const SPECIAL = [
  "127.0.0.1",
  "127.255.255.254",
  "0.0.0.0",
  "0.1.2.3",
  "10.0.0.1",
  "172.16.0.1",
  "172.31.255.255",
  "192.168.1.1",
  "100.64.0.1",
  "169.254.169.254",
  "192.0.0.1",
  "192.0.2.1",
  "192.88.99.1",
  "198.18.0.1",
  "198.51.100.1",
  "203.0.113.1",
  "224.0.0.1",
  "239.255.255.255",
  "240.0.0.1",
  "255.255.255.255",
  "::",
  "::1",
  "::7f00:1",
  "::ffff:127.0.0.1",
  "::ffff:8.8.8.8",
  "::ffff:0:7f00:1",
  "64:ff9b::7f00:1",
  "2002:7f00:1::",
  "2001::1",
  "2001:db8::1",
  // Clouds' own: metadata, agents, services for machines inside.
  "168.63.129.16",
  "::ffff:168.63.129.16",
  "::ffff:a83f:8110",
  "64:ff9b::168.63.129.16",
  "64:ff9b:1::a83f:8110",
  "2002:a83f:8110::1",
  "0xa83f8110",
  "168.63.33040",
  "169.254.169.253",
  "169.254.170.2",
  "169.254.0.23",
  "100.100.100.200",
  "192.0.0.192",
  "192.0.0.170",
  "161.26.0.10",
  "166.9.0.1",
  "199.36.153.8",
  "192.80.8.124",
  "fd00:ec2::254",
  "fd20:ce::254",
  "fe80::a9fe:a9fe",
  "2001:4860:4860:0:0:5efe:7f00:1",
  "2a00::200:5efe:10.0.0.1",
  "2001:2::1",
  "2001:10::1",
  "2001:20::1",
  "3fff::1",
  "::168.63.129.16",
  "2130706433",
  "0x7f.1",
  "0177.0.0.1",
  "127.1",
  "fc00::1",
  "fd12:3456::1",
  "fe80::1",
  "fe80::1%eth0",
  "fec0::1",
  "ff02::1",
  "100::1",
];

test.each(SPECIAL)("%s is refused", (address) => {
  expect(addressPolicy(false)(address, 443)).toBe(false);
});

test.each([
  "8.8.8.8",
  "168.63.129.17",
  "93.184.216.34",
  "199.36.154.1",
  "2001:4860:4860::8888",
  "172.32.0.1",
  "100.128.0.1",
  "2606:4700:4700::1111",
  "2a00:1450:4001::1",
])("%s is public", (address) => {
  expect(addressPolicy(false)(address, 443)).toBe(true);
});

test.each(["", "localhost", "999.1.1.1", "127.0.0.1:80", "1.2.3.4/8"])(
  "%j is not an address, so it is refused",
  (text) => {
    expect(addressPolicy(false)(text, 443)).toBe(false);
    expect(addressPolicy(["0.0.0.0/0", "::/0"])(text, 443)).toBe(false);
  },
);

test("allows the networks that a setting names, and none beside them", () => {
  const policy = addressPolicy(["10.1.0.0/16", "fd00::/8"]);
  expect(["10.1.2.3", "fd12::1", "8.8.8.8"].map(policy)).toEqual([true, true, true]);
  expect(["10.2.0.1", "127.0.0.1", "169.254.169.254", "fc00::1", "::ffff:10.1.2.3"].map(policy)).toEqual([
    false,
    false,
    false,
    false,
    false,
  ]);
  expect(addressPolicy(true)("169.254.169.254", 80)).toBe(true);
});

test("an address with a port allows only that port of that address", () => {
  const policy = addressPolicy(["127.0.0.1:8080", "[::1]:9090"]);
  expect([policy("127.0.0.1", 8080), policy("::1", 9090), policy("0:0:0:0:0:0:0:1", 9090)]).toEqual([true, true, true]);
  expect([
    policy("127.0.0.1", 80),
    policy("127.0.0.2", 8080),
    policy("::ffff:127.0.0.1", 8080),
    policy("::1", 8080),
    policy("10.0.0.1", 8080),
  ]).toEqual([false, false, false, false, false]);
});

test("DATASETS_ALLOW_PRIVATE is true, false or a list of networks and addresses with ports", () => {
  const allowed = (value: string): unknown => readConfig({ DATASETS_ALLOW_PRIVATE: value }).training.allowPrivate;
  expect([allowed(""), allowed("false"), allowed("true"), allowed("127.0.0.1/32, fd00::/8")]).toEqual([
    false,
    false,
    true,
    ["127.0.0.1/32", "fd00::/8"],
  ]);
  expect(allowed("10.0.0.0/8,127.0.0.1:8080,[::1]:80")).toEqual(["10.0.0.0/8", "127.0.0.1:8080", "[::1]:80"]);
  for (const wrong of [
    "yes",
    "10.0.0.1",
    "10.0.0.0/33",
    "10.0.0.0/8,",
    "localhost:80",
    "127.1:80",
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "::1:80",
    "[127.0.0.1]:80",
  ])
    expect(() => allowed(wrong)).toThrow(UsageError);
});
