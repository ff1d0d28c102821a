import { randomInt } from "node:crypto";
import { describe, expect, test } from "vitest";
import { maskedJson, maskedUrl } from "../../../../../api/request-log/mask.js";
import { maskedLine } from "../../../../../infra/logging.js";
import { maskCardNumbers } from "../../../../../infra/privacy/masking/card-numbers.js";
import { maskedText } from "../../../../../infra/privacy/masking/masked-text.js";
import { isSecretName } from "../../../../../infra/privacy/masking/secrets.js";

const VISA = "4111111111111111";
const AMEX = "378282246310005";
const MAESTRO = "6304000000000000";
const inFours = (card: string, separator: string): string => card.replace(/(\d{4})(?=\d)/g, `$1${separator}`);
const fromZero = (card: string, zero: number): string =>
  [...card].map((digit) => String.fromCodePoint(zero + Number(digit))).join("");
const each = (card: string, form: (digit: string) => string): string => [...card].map(form).join("");

describe("card numbers in a text, however they are written", () => {
  const SEPARATORS = [
    "+",
    ".",
    "/",
    "\t",
    "\n",
    "_",
    ",",
    ":",
    ";",
    "|",
    "*",
    "#",
    "~",
    "\\",
    " / ",
    ", ",
    "--",
    "%20",
    "%2B",
    "&nbsp;",
    "&#160;",
    "\\u00a0",
    "\\t",
    "\u00a0",
    "\u2007",
    "\u202f",
    "\u3000",
    "\u200b",
    "\u200d",
    "\u2060",
    "\ufeff",
    "\u00ad",
    "\u2010",
    "\u2011",
    "\u2013",
    "\u2014",
    "\u2212",
    "\u30fb",
    "\u00b7",
    "\ufe0f",
  ];
  test.each(SEPARATORS)("groups with %j between them", (separator) => {
    for (const card of [VISA, AMEX, MAESTRO]) {
      expect(maskCardNumbers(`pay ${inFours(card, separator)} now`)).toBe("pay [card number] now");
      expect(maskCardNumbers(`${card.slice(0, 6)}${separator}${card.slice(6)}`)).toBe("[card number]");
      expect(maskCardNumbers(each(card, (digit) => digit + separator))).toMatch(/^\[card number\]/);
    }
  });

  test.each([
    ["Arabic-Indic", 0x660],
    ["Persian", 0x6f0],
    ["Devanagari", 0x966],
    ["Bengali", 0x9e6],
    ["Thai", 0xe50],
    ["full-width", 0xff10],
    ["mathematical bold", 0x1d7ce],
    ["mathematical monospace", 0x1d7f6],
    ["Adlam", 0x1e950],
    ["subscript", 0x2080],
    ["tags'", 0xe0030],
    ["black circled", 0x2775],
    ["sans-serif circled", 0x277f],
    ["double circled", 0x24f4],
    ["Ethiopic", 0x1368],
    ["Suzhou", 0x3020],
  ])("%s digits", (_, zero) => {
    expect(maskCardNumbers(`x${fromZero(VISA, zero)}y`)).toBe("x[card number]y");
    expect(maskCardNumbers(inFours(VISA, " ").replace(/\d/g, (digit) => fromZero(digit, zero)))).toBe("[card number]");
  });

  test.each<[string, (digit: string) => string]>([
    ["percent", (digit) => `%3${digit}`],
    ["double percent", (digit) => `%253${digit}`],
    ["treble percent", (digit) => `%25253${digit}`],
    ["%u", (digit) => `%u003${digit}`],
    ["JSON", (digit) => `\\u003${digit}`],
    ["double JSON", (digit) => `\\\\u003${digit}`],
    ["JavaScript hex", (digit) => `\\x3${digit}`],
    ["code point", (digit) => `\\u{3${digit}}`],
    ["HTML", (digit) => `&#${48 + Number(digit)};`],
    ["HTML hex", (digit) => `&#x3${digit};`],
    ["HTML with zeros", (digit) => `&#${"0".repeat(9)}${48 + Number(digit)};`],
    ["HTML hex with zeros", (digit) => `&#X${"0".repeat(9)}3${digit};`],
    ["HTML of HTML", (digit) => `&amp;#${48 + Number(digit)};`],
    ["Python", (digit) => `\\U0000003${digit}`],
    ["braces", (digit) => `\\x{3${digit}}`],
    ["percent of JSON", (digit) => `%5Cu003${digit}`],
    ["full-width percent", (digit) => encodeURIComponent(fromZero(digit, 0xff10))],
    ["Arabic percent", (digit) => encodeURIComponent(fromZero(digit, 0x660))],
  ])("%s escapes, of all digits and of some", (_, escaped) => {
    for (const text of [
      each(VISA, escaped),
      inFours(VISA, "-").replace(/1/g, (digit) => (randomInt(2) === 0 ? escaped(digit) : digit)),
    ]) {
      const masked = maskCardNumbers(`a=${text}&b`);
      expect(masked, text).toBe("a=[card number]&b");
    }
  });

  test("in tags, with any entity between, in Han digits, in base64 and in hexadecimal digits", () => {
    const tagged = [
      each(VISA, (digit) => `<span>${digit}</span>`),
      "4111<b>1111</b>1111<br/>1111",
      "4111&ThinSpace;1111&ZeroWidthSpace;1111&nbsp;1111",
    ];
    const encoded = [VISA, `card ${inFours(VISA, " ")}`, JSON.stringify({ card: AMEX })].flatMap((text) => [
      Buffer.from(text).toString("base64"),
      Buffer.from(text).toString("base64url"),
      Buffer.from(text).toString("hex"),
    ]);
    for (const text of [
      ...tagged,
      ...encoded,
      ...encoded.map((one) => `GET /x/${one}?y`),
      each(VISA, (digit) => "〇一二三四五六七八九"[Number(digit)]),
    ])
      expect(maskCardNumbers(text), text).toContain("[card number]");
    expect(maskCardNumbers(`q=${encoded[0]}`)).toBe("q=[card number]==");
    // Digests, ids and numbers of other kinds.
    for (const text of [
      "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
      Buffer.from("order 1234567890123456").toString("base64"),
      "<a href=x>12</a>",
    ])
      expect(maskCardNumbers(text)).toBe(text);
  });

  test("next to broken escapes", () => {
    for (const broken of ["%", "%4", "%zz", "\\u", "\\u00", "\\", "&#;", "%e2%28"]) {
      for (const text of [
        `${VISA}${broken}`,
        `${broken} ${VISA}`,
        `${each(VISA, (digit) => `%3${digit}`)}${broken}`,
        `${broken} ${inFours(VISA, "+")}`,
      ]) {
        expect(maskCardNumbers(text), text).toContain("[card number]");
        expect(maskCardNumbers(text), text).not.toMatch(/1111|%31%31/);
      }
    }
  });

  test("before an expiry date or a code, and after an order number", () => {
    for (const text of [
      "4111.1111.1111.1111.12.27",
      "4111 1111 1111 1111 12/27 123",
      "order 77 4111-1111-1111-1111",
      "4111/1111/1111/1111/123",
      "3782.822463.10005.12.27",
    ])
      expect(maskCardNumbers(text), text).not.toMatch(/1111|8224/);
  });

  test("other numbers stay", () => {
    const texts = [
      "2027-01-31 10:00:00.000",
      "2027-01-31T10:00:00.000Z",
      "20270131100000",
      "20270131100000123",
      "1767225600000",
      "1767225600000000",
      "1767225600000000000",
      "31/01/2027 10:15:30.250",
      "192.168.100.200:8080",
      "192.168.100.200, 192.168.100.201, 192.168.100.202",
      "2001:db8:85a3:8d3:1319:8a2e:370:7348",
      "550e8400-e29b-41d4-a716-446655440000",
      "+49 170 1234567",
      "0.4532015112830366",
      "[0.4532015112830366,0.5105105105105100]",
      "1,234,567.89",
      "812.5",
      "s1-20713-7471",
      "epoch 12, offsets 48, 49, 50, 51, 52",
      "4111111111111112",
      "[3,0,12,5,1,0,0,2,4,9,1,0,1,7,2,2,0,1,1,30]",
      "v1.22.3-rc.4+build.5678",
      "SHA256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ];
    for (const text of texts) expect(maskCardNumbers(text)).toBe(text);
    // Of random ids, amounts and times about as many as Luhn lets through.
    const hit = (make: () => string): number =>
      Array.from({ length: 2_000 }, make).filter((text) => maskCardNumbers(text) !== text).length / 2_000;
    const time = (): number => Date.UTC(2020, 0, 1) + randomInt(400_000_000_000);
    expect(hit(() => String(time()))).toBe(0);
    expect(hit(() => new Date(time()).toISOString().replace("T", " "))).toBe(0);
    expect(hit(() => `${randomInt(10_000)}.${randomInt(100)} EUR`)).toBe(0);
    expect(hit(() => `t-${randomInt(2 ** 40)}`)).toBe(0);
    expect(hit(() => Array.from({ length: 25 }, () => Math.random() * 100).join(","))).toBeLessThan(0.02);
    expect(
      hit(() =>
        maskedJson({ features: Array.from({ length: 25 }, () => Math.random() * 100), at: time() }, 4_000).includes(
          "[card",
        )
          ? VISA
          : "",
      ),
    ).toBe(0);
    expect(
      hit(() =>
        maskedJson(
          {
            ids: Array.from({ length: 20 }, () => randomInt(50)),
            rows: randomInt(9_000),
            frauds: randomInt(9_000),
            n: randomInt(9_000),
            m: randomInt(9_000),
          },
          4_000,
        ).includes("[card")
          ? VISA
          : "",
      ),
    ).toBeLessThan(0.08);
  });

  test("a megabyte of anything is masked in time linear in its length: otherwise this test doesn't end", () => {
    for (const piece of ["4", "4 ", "4.", "%34", "%25", "\\u0034", "\\", "4111.1111.", "٤", "//a:b", "a=", "'a"])
      maskedText(piece.repeat(1_000_000 / piece.length));
    for (const text of [
      `["${'\\"'.repeat(60_000)}`,
      `["${'\\"'.repeat(60_000)}"]`,
      "[".repeat(120_000),
      JSON.stringify(Array.from({ length: 10_000 }, () => '[1,"4"]')),
    ])
      maskedJson({ text }, 500_000);
    for (const piece of ["<b", "&#0", "\\u{0", "NDEx", '"password":"', 'cookie: "'])
      maskedText(piece.repeat(100_000 / piece.length));
  });
});

describe("numbers that are split", () => {
  test("over an array of texts or numbers, over fields, also at the cut", () => {
    const groups = ["4111", "1111", "1111", "1111"];
    for (const value of [
      groups.map((n) => ({ n })),
      { cards: groups.map((n) => ({ n: Number(n) })) },
      groups,
      groups.map(Number),
      [...VISA],
      [...VISA].map(Number),
      { a: groups[0], b: groups[1], c: groups[2], d: groups[3] },
      { card: [{ parts: groups }] },
      ["pay", ...groups, "12/27"],
      ["4111 1111", "1111 1111"],
      { a: "4111", currency: "EUR", b: "1111", c: "1111", d: "1111" },
      ["411111", "1111111111"],
    ]) {
      const text = maskedJson(value, 1_000);
      expect(text).not.toContain("111");
      expect(JSON.stringify(JSON.parse(text))).toContain("[card number]");
    }
    for (let pad = 0; pad < 60; pad++) expect(maskedJson(["y".repeat(pad), ...groups], 60)).not.toMatch(/1111/);
  });

  const groups = ["4111", "1111", "1111", "1111"];
  /** Spread over objects and arrays with further values in them. */
  const SPREAD: readonly unknown[] = [
    groups.map((n, x) => ({ n, x })),
    groups.map((n) => ({ n: Number(n), x: 1 })),
    groups.map((n) => ({ currency: "EUR", n })),
    groups.map((digits, position) => ({ position, digits, kind: "block" })),
    groups.map((n) => [n, 1]),
    groups.map((n) => ({ p: { n }, x: 2 })),
    { a: { p: "4111", q: 1 }, b: { p: "1111", q: 2 }, c: { p: "1111", q: 3 }, d: { p: "1111", q: 4 } },
    [
      { n: "41111111", x: 1 },
      { n: "11111111", x: 2 },
    ],
    { card: [...groups, "12/27", "123"].map((n, x) => ({ n, x })) },
  ];

  test("over one field of several objects, also in the log and at the cut", () => {
    for (const value of SPREAD) {
      const text = maskedJson(value, 1_000);
      expect(text).not.toContain("111");
      expect(JSON.stringify(JSON.parse(text))).toContain("[card number]");
      const line = maskedLine(`${JSON.stringify({ level: 30, time: 1767225600000, value })}\n`);
      expect(line).not.toContain("111");
      expect(JSON.parse(line)).toMatchObject({ level: 30, time: 1767225600000 });
    }
    for (let pad = 0; pad < 60; pad++)
      expect(maskedJson([{ y: "y".repeat(pad) }, ...groups.map((n, x) => ({ n, x }))], 90)).not.toMatch(/1111/);
  });

  test("over JSON in texts, up to four levels deep, where secrets are hidden by their names as well", () => {
    const secrets = [
      { password: "hunter2" },
      [{ name: "x-api-key", value: "hunter2" }],
      ["Authorization", "hunter2"],
      { "4111111111111111": 1 },
    ];
    for (const value of [
      ...SPREAD,
      ...secrets,
      { card: VISA },
      { n: groups.map(Number) },
      [4111111111111111, 1],
      `${VISA} or {`,
    ]) {
      let text = JSON.stringify(value);
      for (let level = 1; level <= 4; level++) {
        const body = maskedJson({ level, body: text, ok: "stays" }, 10_000);
        expect(body, `level ${level}`).not.toMatch(/111|hunter2/);
        expect(JSON.parse(body)).toMatchObject({ level, ok: "stays" });
        expect(maskedLine(`${JSON.stringify({ level, msg: text })}\n`), `level ${level}`).not.toMatch(/111|hunter2/);
        text = JSON.stringify(level % 2 === 0 ? { inner: text } : [1, text]);
      }
    }
    let deep = JSON.stringify({ password: "hunter2" });
    for (let level = 1; level <= 4; level++)
      expect(maskedText(`sent ${(deep = JSON.stringify({ body: deep }))}`)).not.toContain("hunter2");
    // Integers that a double does not hold are not rounded into others.
    expect(
      maskedJson('{"a": 4532015112830366000, "card": 6304000000000000003, "password": "hunter2"}', 500),
    ).not.toMatch(/hunter2|630400/);
    const line = `{"level":30,"card":"${VISA}","card":"x"}\n`;
    expect(maskedLine(line)).not.toContain("111");
  });

  test("other numbers stay as they are written, also in texts that are JSON and in tables", () => {
    const plain = [
      '{ "a" : 1.50, "id" : 12345678901234567890 }',
      "[1, 2,3]",
      '{"a":"{\\"b\\": [ 1 ]}"}',
      '{"cut": "by som',
      '"text"',
    ];
    for (const text of plain) expect(JSON.parse(maskedJson({ text }, 1_000))).toEqual({ text });
    const time = Date.UTC(2026, 10, 30);
    const rows = Array.from({ length: 25 }, (_, i) => ({
      id: String(40_000 + 7 * i),
      n: 4_000 + 13 * i,
      at: time + i,
      day: `2026-11-${10 + (i % 20)}`,
      score: i / 25,
      amount: `${400 + i}.50`,
    }));
    expect(JSON.parse(maskedJson(rows, 10_000))).toEqual(rows);
    for (const url of [
      "/api/v1/predictions/p-17?wait_ms=30000",
      "/api/v1/dead-letters/3/10482?limit=500",
      "/api/v1/metrics?from=1767225600000&to=1767312000000",
      "/api/v1/models/4@2?window=P30D",
    ]) {
      expect(maskedUrl(url, 500)).toBe(url);
    }
  });

  test("in a URL's path and parameters", () => {
    const both = [
      "/cards/41111111?rest=11111111",
      "/cards/41111111/x?rest=11111111",
      "/cards/4111/1111?a=1111&b=1111",
      "/x?411111=1111111111",
      "/cards/411111?n=1111111111&x=EUR",
      "/cards/4111?1111=1111&1111",
    ];
    for (const url of [
      ...both,
      "/x/4111/1111/1111/1111/y",
      "/x?a=4111&b=1111&c=1111&d=1111",
      "/x?n=4111&n=1111&x=EUR&n=1111&n=1111",
      "/x?card_id=4111+1111+1111+1111",
      "/x?card_id=4111%201111%E2%80%931111%201111&z=%4",
      "/x/4111%2F1111%2F1111%2F1111",
      "/a/4111/b/1111/c/1111/d/1111",
      "/x?4111111111111111",
      "/x?q=%25%33%34111111111111111",
    ]) {
      expect(maskedUrl(url, 500), url).toContain("[card number]");
      expect(maskedUrl(url, 500), url).not.toContain("111");
    }
  });
});

describe("secrets", () => {
  test("by names, however they are written", () => {
    const names = [
      "password",
      "passwd",
      "pwd",
      "userPwd",
      "passphrase",
      "pass_phrase",
      "Passcode",
      "secret",
      "client_secret",
      "clientSecret",
      "client-secret",
      "CLIENTSECRET",
      "api_key",
      "apiKey",
      "x-api-key",
      "API KEY",
      "access_token",
      "refreshToken",
      "Authorization",
      "proxy-authorization",
      "cookie",
      "set-cookie",
      "security_code",
      "securityCode",
      "card_cvc",
      "cardCvc",
      "cvc2",
      "CVV",
      "cvv2",
      "cvn",
      "csc",
      "pin",
      "PIN",
      "pin1",
      "card_pin",
      "pinBlock",
      "otp",
      "otp_code",
      "totp",
      "one-time-code",
      "private_key",
      "privateKey",
      "aws_secret_access_key",
      "X-Amz-Signature",
      "sig",
      "signature",
      "credentials",
      "session_id",
      "sid",
      "jwt",
      "bearer",
      "auth",
      "track2",
      "SecCode",
      "sec_code",
      "card-verification",
      "cav2",
      "OTPCode",
      "2fa_code",
      "PINCode",
      "pass\u200bword",
      "contraseña",
      "kennwort",
      "mot_de_passe",
      "passkey",
      "recovery_code",
      "seed_phrase",
      "encKey",
      "ｐａｓｓｗｏｒｄ",
      "verification_value",
    ];
    for (const name of names) {
      expect(isSecretName(name), name).toBe(true);
      expect(maskedJson({ deep: [{ [name]: { any: ["hunter2"] } }] }, 1_000), name).not.toContain("hunter2");
      expect(maskedUrl(`/x?a=1&${encodeURIComponent(name)}=hunter2&b=2`, 500), name).not.toContain("hunter2");
    }
    const open = [
      "shipping",
      "pinned",
      "mapping",
      "option",
      "spin",
      "author",
      "signal",
      "passenger",
      "compass",
      "passed",
      "merchant_id",
      "card_id",
      "stand",
      "tangent",
      "currency",
      "epoch",
      "code",
      "cvalue",
      "address",
      "key",
      "sidebar",
      "keyboard",
      "thresholds",
    ];
    for (const name of open) expect(isSecretName(name), name).toBe(false);
  });

  test("with an @ or a quotation mark in them, in brackets, cut off, and of any scheme", () => {
    const texts = [
      "https://ann:hun@ter2@data.example/x",
      '{"password":"a\\"hunter2"}',
      "{password:'it\\'s hunter2'}",
      '{"password":"hunter2',
      "password[]=hunter2",
      "user[password]=hunter2",
      "passwords[0]=hunter2",
      "Authorization: ApiKey hunter2",
      'Authorization: Digest username="ann", response="hunter2"',
      "Cookie: a=1; b=hunter2",
      "Set-Cookie: b=hunter2; HttpOnly",
    ];
    for (const text of texts) expect(maskedText(text), text).not.toContain("ter2");
    expect(maskedText("cookies: none\nnext line")).toBe("cookies: none\nnext line");
    expect(maskedText("https://data.example/a@b")).toBe("https://data.example/a@b");
  });

  test("as options, elements, sentences, arrows and lists of headers", () => {
    for (const text of [
      "run --password hunter2 --x",
      "run -password 'hunter2 x'",
      "<password>hunter2</password>",
      '<ns:clientSecret type="a">hunter2</x>',
      "the password is hunter2",
      '"pass" => "hunter2"',
      "jdbc:sqlserver://h:1433;user=a;password=hunter2;x=1",
    ]) {
      expect(maskedText(text), text).not.toContain("hunter2");
    }
    for (const value of [
      ["Authorization", "hunter2"],
      ["accept", "x", "cookie", "hunter2"],
      [{ name: "x-api-key", value: "hunter2" }],
      { headers: [{ key: "Authorization", value: "Basic hunter2" }] },
    ]) {
      expect(maskedJson(value, 500)).not.toContain("hunter2");
    }
    for (const text of [
      "the password is wrong",
      "--port 9092",
      "<option>12</option>",
      "the token was refused",
      "password to be set",
      "a token is needed",
    ])
      expect(maskedText(text)).toBe(text);
  });

  test("in links, texts and JSON within JSON", () => {
    const texts = [
      "https://ann:hunter2@data.example/x.csv",
      "postgres://hunter2@db/x",
      "https://s3.example/x.csv?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2&x=1",
      "https://blob.example/x?sv=1&sig=hunter2%3D",
      "password=hunter2",
      "pwd: hunter2",
      'sent {"client_secret":"hunter2"}',
      '{"body":"{\\"password\\":\\"hunter2\\"}"}',
      "Authorization: Bearer hunter2hunter2",
      "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.hunter2",
    ];
    for (const text of texts) {
      expect(maskedText(text), text).not.toContain("hunter2");
      expect(maskedJson({ dataset: text, list: [text] }, 1_000), text).not.toContain("hunter2");
      expect(maskedUrl(`/x?link=${encodeURIComponent(text)}`, 900), text).not.toContain("hunter2");
    }
    for (const text of [
      "password: is missing",
      "the token was refused",
      "https://data.example/x.csv?part=3",
      "GET /api/v1/tokens",
      "a@b.example",
    ])
      expect(maskedText(text)).toBe(text);
  });
});

test(
  "a line of a log hides card numbers and secrets wherever they stand, is JSON still, and has no " +
    "control characters",
  () => {
    const line = (value: object): string => `${JSON.stringify({ level: 30, time: 1767225600000, ...value })}\n`;
    const plain = line({ msg: "listening", address: "http://127.0.0.1:3000" });
    expect(maskedLine(plain)).toBe(plain);
    for (const value of [
      { msg: `card ${VISA} is unknown` },
      { err: { stack: `at ${inFours(VISA, " ")}` } },
      { parts: [4111, 1111, 1111, 1111] },
      { msg: "see https://a:hunter2@b.example" },
      { pwd: "hunter2" },
    ]) {
      const masked = maskedLine(line(value));
      expect(masked).not.toMatch(/1111|hunter2/);
      expect(JSON.parse(masked)).toMatchObject({ level: 30, time: 1767225600000 });
      expect(masked.endsWith("}\n")).toBe(true);
    }
    const escapes = maskedLine(line({ merchant_id: "m\u001b]0;x\u0007\u009b31m\u202e" }));
    expect(escapes.trimEnd()).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
  },
);
