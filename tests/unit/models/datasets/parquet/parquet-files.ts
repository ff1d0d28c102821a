/** A value of Thrift's compact protocol, with its type. */
interface Typed {
  type: number;
  bytes: Buffer;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

const zigzag = (value: number): Buffer => varint(value < 0 ? -2 * value - 1 : 2 * value);

export const i32 = (value: number): Typed => ({ type: 5, bytes: zigzag(value) });
const i64 = (value: number): Typed => ({ type: 6, bytes: zigzag(value) });

export function text(value: string): Typed {
  return { type: 8, bytes: Buffer.concat([varint(Buffer.byteLength(value)), Buffer.from(value)]) };
}

export function list(values: readonly Typed[], count = values.length): Typed {
  const head = Buffer.concat([Buffer.from([0xf0 + (values.at(0)?.type ?? 12)]), varint(count)]);
  return { type: 9, bytes: Buffer.concat([head, ...values.map(({ bytes }) => bytes)]) };
}

export function struct(fields: Readonly<Record<number, Typed>>): Typed {
  const parts = Object.entries(fields).flatMap(([id, { type, bytes }]) => [
    Buffer.from([type]),
    zigzag(Number(id)),
    bytes,
  ]);
  return { type: 12, bytes: Buffer.concat([...parts, Buffer.from([0])]) };
}

interface MadePage {
  /** Of `PageType`: 0 is data, 2 a dictionary. @default 0 */
  kind?: number;
  values: number;
  /** @default 0, plain */
  encoding?: number;
  body: Buffer;
  /** What the page says. @default the body's */
  unpacked?: number;
}

export interface MadeColumn {
  name: string;
  type: number;
  optional?: boolean;
  codec?: number;
  pages: readonly MadePage[];
}

function pageBytes({ kind = 0, values, encoding = 0, body, unpacked = body.length }: MadePage): Buffer {
  const head = struct({
    1: i32(kind),
    2: i32(unpacked),
    3: i32(body.length),
    [kind === 2 ? 7 : 5]: struct({ 1: i32(values), 2: i32(encoding), 3: i32(3), 4: i32(3) }),
  });
  return Buffer.concat([head.bytes, body]);
}

/** A Parquet file of one row group, which says of itself whatever it is told to. */
export function parquetOf(
  rows: number,
  columns: readonly MadeColumn[],
  declared: { unpacked?: number; footer?: Buffer } = {},
): Buffer {
  const parts = [Buffer.from("PAR1")];
  let at = 4;
  const chunks = columns.map(({ type, name, codec = 0, pages }) => {
    const bytes = Buffer.concat(pages.map(pageBytes));
    const start = at;
    parts.push(bytes);
    at += bytes.length;
    return struct({
      3: struct({
        1: i32(type),
        3: list([text(name)]),
        4: i32(codec),
        5: i64(rows),
        6: i64(declared.unpacked ?? bytes.length),
        7: i64(bytes.length),
        9: i64(start),
      }),
    });
  });
  const elements = columns.map(({ name, type, optional = false }) =>
    struct({ 1: i32(type), 3: i32(Number(optional)), 4: text(name), ...(type === 6 && { 6: i32(0) }) }),
  );
  const footer = struct({
    1: i32(1),
    2: list([struct({ 4: text("schema"), 5: i32(columns.length) }), ...elements]),
    3: i64(rows),
    4: list([struct({ 1: list(chunks), 2: i64(declared.unpacked ?? 0), 3: i64(rows) })]),
  });
  const footerBytes = declared.footer ?? footer.bytes;
  const length = Buffer.alloc(4);
  length.writeUInt32LE(footerBytes.length);
  return Buffer.concat([...parts, footerBytes, length, Buffer.from("PAR1")]);
}

export function doubles(values: readonly number[]): Buffer {
  return Buffer.from(Float64Array.from(values).buffer);
}

/** Texts as a plain page has them. */
export function texts(values: readonly string[]): Buffer {
  return Buffer.concat(
    values.flatMap((value) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(Buffer.byteLength(value));
      return [length, Buffer.from(value)];
    }),
  );
}

/** One run of a number below 256, as levels and dictionary indexes are written. */
export function run(count: number, value: number): Buffer {
  return Buffer.concat([varint(count * 2), Buffer.from([value])]);
}

/** Levels of a page of the first version: their length, and they. */
export function levels(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
}
