import { deflateRawSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readCsv } from "../../../../models/datasets/read-csv.js";
import { fileWith } from "./csv-files.js";
import { csvOf, iso, payments } from "./payments-csv.js";

const ROWS = payments(300);
const HEADER = "transaction_id,event_time,card_id,merchant_id,amount,is_fraud";
const MERCHANTS = ["Müller", "Möller", "Miller", "Café Bleu", "Cafè Bleu", "Łódź"];
const text = csvOf(HEADER, ROWS, ({ row, time, card, amount, fraud }) => [
  `t${row}`,
  iso(time),
  card,
  MERCHANTS[row % 5],
  amount,
  Number(fraud),
]);

describe("encodings: nothing that differs in the file is the same afterwards", () => {
  const merchants = async (content: Uint8Array | string, name = "data.csv"): Promise<string[]> => {
    const { merchantId } = await readCsv(fileWith(content, name));
    return [...new Set(merchantId)].sort();
  };
  const wanted = MERCHANTS.slice(0, 5).sort();

  test("UTF-8, with a mark and without", async () => {
    expect(await merchants(text)).toEqual(wanted);
    expect(await merchants(`\uFEFF${text}`)).toEqual(wanted);
  });

  test("UTF-16 of either order, with a mark and without", async () => {
    const little = Buffer.from(text, "utf16le");
    expect(await merchants(Buffer.concat([Buffer.from([0xff, 0xfe]), little]))).toEqual(wanted);
    expect(await merchants(little)).toEqual(wanted);
    const big = Buffer.from(text, "utf16le").swap16();
    expect(await merchants(Buffer.concat([Buffer.from([0xfe, 0xff]), big]))).toEqual(wanted);
    expect(await merchants(big)).toEqual(wanted);
  });

  test("Windows-1252 with a note, its quotation marks and euro included", async () => {
    const file = fileWith(Buffer.from(text.replaceAll("Miller", "Mill\x80r"), "latin1"));
    const { merchantId, notes } = await readCsv(file);
    expect([...new Set(merchantId)].sort()).toEqual(["Cafè Bleu", "Café Bleu", "Mill€r", "Möller", "Müller"]);
    expect(notes).toContain("file: read as Windows-1252: it is not UTF-8");
  });

  test("bytes of no encoding, or of two, are refused with the line", async () => {
    const mixed = Buffer.concat([Buffer.from(text), Buffer.from("t-1,2024-04-01,c,M\xfcller,5,0\n", "latin1")]);
    await expect(readCsv(fileWith(mixed))).rejects.toMatchObject({
      code: "csv_bad_encoding",
      message: expect.stringMatching(/ line 302: .*--encoding NAME$/) as unknown,
    });
    const undefinedByte = Buffer.from(text.replaceAll("Miller", "M\x81ller"), "latin1");
    await expect(readCsv(fileWith(undefinedByte))).rejects.toMatchObject({ code: "csv_bad_encoding" });
    await expect(readCsv(fileWith(text), { encoding: "martian" })).rejects.toMatchObject({ code: "unknown_encoding" });
  });

  test("an encoding that is named", async () => {
    const file = fileWith(Buffer.from(text.replaceAll("Müller", "M\xa4ller").replaceAll("Café", "Caf\xe9"), "latin1"));
    const { merchantId } = await readCsv(file, { encoding: "iso-8859-15" });
    expect(new Set(merchantId)).toContain("M€ller");
  });

  test("ids that were damaged before are told", async () => {
    const { notes } = await readCsv(fileWith(text.replaceAll("Müller", "M\uFFFDller")));
    expect(notes.join("\n")).toMatch(/WARNING: column "merchant_id" .*60 cells hold U\+FFFD, the first on line 2/);
    const excel = await readCsv(fileWith(text.replace(/,c(\d+),/g, ",4.5$1E+15,")));
    expect(excel.notes.join("\n")).toMatch(/WARNING: column "card_id" .*look like 4.5E\+15/);
  });
});

describe("line ends", () => {
  test.each([
    ["CR LF", text.replaceAll("\n", "\r\n")],
    ["CR", text.replaceAll("\n", "\r")],
    [
      "mixed",
      text
        .split("\n")
        .map((line, i) => line + ["\n", "\r\n", "\r"][i % 3])
        .join(""),
    ],
    ["none at the end", text.trimEnd()],
  ])("%s", async (_, content) => {
    const dataset = await readCsv(fileWith(content));
    expect(dataset.merchantId).toEqual(ROWS.map(({ row }) => MERCHANTS[row % 5]));
    expect([...dataset.amount]).toEqual(ROWS.map(({ amount }) => amount));
  });
});

describe("delimiters and quotes", () => {
  test.each([
    [";", "semicolon"],
    ["\t", "tab"],
    ["|", "pipe"],
  ])("%j, with decimal commas", async (delimiter, name) => {
    const content = csvOf(
      HEADER.replaceAll(",", delimiter),
      ROWS,
      ({ row, time, card, merchant, amount, fraud }) => [
        row,
        iso(time),
        card,
        merchant,
        (amount * 100).toLocaleString("de-DE", { minimumFractionDigits: 2 }),
        Number(fraud),
      ],
      delimiter,
    );
    const dataset = await readCsv(fileWith(content));
    for (const [row, { amount }] of ROWS.entries()) expect(dataset.amount[row]).toBeCloseTo(amount * 100, 6);
    expect(dataset.notes).toContain(`file: separated by ${name}`);
    expect(dataset.notes).toContain('amount: column "amount", numbers with a decimal comma');
  });

  test("Excel's sep= line, apostrophes around cells, quotation marks within a tab-separated text", async () => {
    const excel = await readCsv(fileWith(`sep=;\n${text.replaceAll(",", ";")}`));
    expect(excel.length).toBe(300);
    const banksim = text.replace(/(t\d+),([^,]*),([^,]*),([^,]*)/g, "'$1','$2','$3','$4'");
    expect((await readCsv(fileWith(banksim))).cardId).toEqual(excel.cardId);
    const tabs = await readCsv(fileWith(text.replaceAll(",", "\t").replaceAll("Miller", 'Miller 5" pipe')));
    expect(new Set(tabs.merchantId)).toContain('Miller 5" pipe');
  });

  test("one that is named", async () => {
    const file = fileWith("amount;x,label\n1;2,0\n2;3,1\n");
    expect(
      (
        await readCsv(file, {
          delimiter: "semicolon",
          columns: { label: "x,label" },
          labels: { fraud: ["3,1"], genuine: ["2,0"] },
        })
      ).length,
    ).toBe(2);
  });
});

describe("packing", () => {
  test("gzip: several members, zeros behind them, gzip in gzip, something else behind it", async () => {
    const half = Math.floor(text.length / 2);
    const members = Buffer.concat([gzipSync(text.slice(0, half)), gzipSync(text.slice(half))]);
    for (const zeros of [0, 1, 512, 3_000_000]) {
      const dataset = await readCsv(fileWith(Buffer.concat([members, Buffer.alloc(zeros)])));
      expect(dataset.length).toBe(300);
    }
    const between = Buffer.concat([gzipSync(text.slice(0, half)), Buffer.alloc(700_000), gzipSync(text.slice(half))]);
    expect((await readCsv(fileWith(between))).length).toBe(300);
    expect((await readCsv(fileWith(gzipSync(gzipSync(text))))).length).toBe(300);
    await expect(readCsv(fileWith(Buffer.concat([members, Buffer.from("tail")])))).rejects.toMatchObject({
      code: "csv_truncated",
    });
  });

  test("Zstandard, in several frames; cut off", async () => {
    const frames = Buffer.concat([zstdOf("amount,label\n1,0\n"), zstdOf("2,1\n3,0\n")]);
    expect([...(await readCsv(fileWith(frames))).amount]).toEqual([1, 2, 3]);
    await expect(readCsv(fileWith(frames.subarray(0, frames.length - 3)))).rejects.toMatchObject({
      code: "csv_truncated",
    });
  });

  test("a zip archive with one CSV, packed or not", async () => {
    for (const stored of [false, true]) {
      const dataset = await readCsv(
        fileWith(
          zipOf(
            [
              ["data/payments.csv", text],
              ["__MACOSX/._payments.csv", "x"],
              ["README.md", "about"],
            ],
            stored,
          ),
        ),
      );
      expect([dataset.length, dataset.cardId[0]]).toEqual([300, ROWS[0].card]);
    }
  });

  test("a zip archive of the large kind (zip64)", async () => {
    for (const all of [false, true]) {
      const { length, cardId } = await readCsv(fileWith(largeZipOf("payments.csv", text, all)));
      expect([length, cardId[0]]).toEqual([300, ROWS[0].card]);
    }
    const damaged = largeZipOf("payments.csv", text, true);
    damaged.fill(0xff, damaged.length - 22 - 20 + 8, damaged.length - 22 - 20 + 16);
    await expect(readCsv(fileWith(damaged))).rejects.toMatchObject({
      code: "zip_archive",
      message: expect.stringMatching(/is a damaged zip archive$/) as unknown,
    });
  });

  test("other archives and files say what they are", async () => {
    const refused = (content: Uint8Array | string): Promise<string> =>
      readCsv(fileWith(content)).then(
        () => "",
        (error: Error) => error.message,
      );
    expect(
      await refused(
        zipOf([
          ["a.csv", text],
          ["b.csv", text],
        ]),
      ),
    ).toMatch(/is a zip archive that holds "a.csv", "b.csv": unpack it, and take one CSV file of it$/);
    expect(
      await refused(
        zipOf([
          ["xl/workbook.xml", ""],
          ["[Content_Types].xml", ""],
        ]),
      ),
    ).toMatch(/is an Excel workbook/);
    expect(await refused(zipOf([]))).toMatch(/zip archive with nothing in it/);
    expect(await refused(zipOf([["a.csv", text]]).subarray(0, 200))).toMatch(/zip archive that was cut off/);
    expect(await refused("PAR1\x15\x04")).toMatch(/Parquet file/);
    expect(await refused("BZh91AY&SY")).toMatch(/packed by bzip2/);
    expect(await refused("<!DOCTYPE html><html>")).toMatch(/web page/);
    expect(await refused('[{"amount": 1}]')).toMatch(/it is JSON/);
  });
});

/** A frame of one block that is stored as it is. */
function zstdOf(content: string): Buffer {
  const block = (content.length << 3) | 1;
  return Buffer.concat([
    Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, content.length, block & 0xff, (block >> 8) & 0xff, block >> 16]),
    Buffer.from(content),
  ]);
}

/** A zip archive whose sizes and places have 64 bits. @param all those of the directory, too */
function largeZipOf(name: string, content: string, all: boolean): Buffer {
  const small = zipOf([[name, content]]);
  const end = small.length - 22;
  const start = small.readUInt32LE(end + 16);
  const central = Buffer.from(small.subarray(start, end));
  const field = Buffer.alloc(4 + 24);
  field.writeUInt16LE(1, 0);
  field.writeUInt16LE(24, 2);
  // Unpacked, packed, and where the entry is.
  for (const [index, at] of [24, 20, 42].entries()) {
    field.writeBigUInt64LE(BigInt(central.readUInt32LE(at)), 4 + 8 * index);
    central.writeUInt32LE(0xffffffff, at);
  }
  central.writeUInt16LE(field.length, 30);
  const last = Buffer.from(small.subarray(end));
  last.writeUInt32LE(central.length + field.length, 12);
  if (!all) return Buffer.concat([small.subarray(0, start), central, field, last]);
  const large = Buffer.alloc(56);
  large.writeUInt32LE(0x06064b50, 0);
  large.writeBigUInt64LE(44n, 4);
  large.writeBigUInt64LE(BigInt(central.length + field.length), 40);
  large.writeBigUInt64LE(BigInt(start), 48);
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50, 0);
  locator.writeBigUInt64LE(BigInt(start + central.length + field.length), 8);
  last.fill(0xff, 8, 20);
  return Buffer.concat([small.subarray(0, start), central, field, large, locator, last]);
}

/** A zip archive, as any packer writes it. */
function zipOf(files: readonly [string, string][], stored = false): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, content] of files) {
    const packed = stored ? Buffer.from(content) : deflateRawSync(content);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(stored ? 0 : 8, 8);
    local.writeUInt32LE(packed.length, 18);
    local.writeUInt32LE(Buffer.byteLength(content), 22);
    local.writeUInt16LE(name.length, 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(stored ? 0 : 8, 10);
    central.writeUInt32LE(packed.length, 20);
    central.writeUInt32LE(Buffer.byteLength(content), 24);
    central.writeUInt16LE(name.length, 28);
    central.writeUInt32LE(offset, 42);
    parts.push(local, Buffer.from(name), packed);
    directory.push(central, Buffer.from(name));
    offset += 30 + name.length + packed.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(Buffer.concat(directory).length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, ...directory, end]);
}
