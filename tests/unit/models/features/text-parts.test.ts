import { describe, expect, test } from "vitest";
import { partCodes, partFault, partOf, partOfMost, readPart } from "../../../../models/features/text-parts.js";

describe("partOf", () => {
  test.each([
    ["Jane.Doe@Example.COM", "example.com"],
    [" jane@mail.example.org ", "mail.example.org"],
    ['"a@b"@example.com', "example.com"],
    ["jane@bücher.example", "bücher.example"],
    ["@example.com", null],
    ["jane@", null],
    ["jane", null],
    ["jane@exa mple.com", null],
    ["", null],
    [`jane@${"a".repeat(254)}`, null],
  ])("the e-mail domain of %j is %j", (text, domain) => {
    expect(partOf(text, "email_domain")).toBe(domain);
  });

  test.each([
    ["4111111111111111", "411111"],
    ["4111 1111 1111 1111", "411111"],
    ["4111-1111-1111-1111", "411111"],
    ["411111******1111", "411111"],
    ["411111XXXXXX1111", "411111"],
    ["4111********1111", null],
    ["41111111111", null],
    ["41111111111111111111", null],
    ["c-4111111111111111", null],
    ["pc1.abcdefghijklmnopqrstuvwxABCD", null],
    ["596", null],
    ["", null],
  ])("the BIN of %j is %j", (text, bin) => {
    expect(partOf(text, "bin")).toBe(bin);
  });

  test.each([
    ["192.0.2.255", "192.0.2"],
    ["10.0.0.0", "10.0.0"],
    ["010.001.000.9", "10.1.0"],
    ["256.0.0.1", null],
    ["1.2.3", null],
    ["1.2.3.4.5", null],
    ["1.2.3.", null],
    [".1.2.3.4", null],
    ["1..2.3", null],
    ["1.2.3.4:80", null],
    ["2001:db8::1", null],
    ["1.2.3.0004", null],
    ["", null],
  ])("the /24 of %j is %j", (text, network) => {
    expect(partOf(text, "ipv4_24")).toBe(network);
  });
});

test("a part is read where the text stands among others", () => {
  const bytes = Buffer.from("x@y.z192.0.2.1jane@example.com");
  const out = Buffer.alloc(253);
  const length = readPart("ipv4_24", bytes, 5, 9, out);
  expect(out.toString("latin1", 0, length)).toBe("192.0.2");
});

test("texts as codes of their parts, in the order that parts come in", () => {
  const { codes, parts } = partCodes(["a@x.org", "none", "b@y.org", "c@X.org"], "email_domain");
  expect([[...codes], parts]).toEqual([
    [0, -1, 1, 0],
    ["x.org", "y.org"],
  ]);
});

test("what no part can equal is said", () => {
  expect(partFault("411111", "bin")).toBeNull();
  expect(partFault("4111111111111111", "bin")).toContain("never a whole card number");
  expect(partFault("gmail.com", "email_domain")).toBeNull();
  expect(partFault("GMAIL.com", "email_domain")).toContain("lower case");
  expect(partFault("x@gmail.com", "email_domain")).toContain("lower case");
  expect(partFault("192.0.2", "ipv4_24")).toBeNull();
  expect(partFault("192.0.2.1", "ipv4_24")).toContain("192.0.2");
});

test("what most texts are addresses of", () => {
  const mails = Array.from({ length: 20 }, (_, i) => `u${i}@example.com`);
  expect(partOfMost(mails)).toBe("email_domain");
  expect(partOfMost([...mails, "unknown"])).toBe("email_domain");
  expect(partOfMost([...mails, "a", "b", "c"])).toBeNull();
  expect(partOfMost(["192.0.2.1", "192.0.2.2"])).toBe("ipv4_24");
  expect(partOfMost([])).toBeNull();
});
