import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { FraudstreamError, messageOf } from "../../schemas/errors.js";

const NO_BYTES = new Uint8Array();
const utf8 = new TextDecoder();

/** One field of an encoded protobuf message. */
export class Field {
  constructor(
    readonly no: number,
    readonly type: WireType,
    /** Of a length-delimited field; empty for the others. */
    readonly bytes: Uint8Array,
    readonly message: Uint8Array,
    readonly start: number,
    readonly valueAt: number,
    readonly end: number,
  ) {}

  /** Tag and value, as they stand in the message. */
  get raw(): Uint8Array {
    return this.message.subarray(this.start, this.end);
  }

  get text(): string {
    return utf8.decode(this.bytes);
  }

  /** True for a field that holds a message, text or bytes and has one of these numbers. */
  holds(...numbers: number[]): boolean {
    return this.type === WireType.LengthDelimited && numbers.includes(this.no);
  }

  /** The entries of an int64 field: one, or many that are packed. Beyond 2^53 they are rounded. */
  get integers(): number[] {
    return this.#entries(WireType.Varint, (reader) => Number(reader.int64()));
  }

  /** The entries of a float field: one, or many that are packed. */
  get floats(): number[] {
    return this.#entries(WireType.Bit32, (reader) => reader.float());
  }

  #entries(single: WireType, read: (reader: BinaryReader) => number): number[] {
    if (this.type !== single && this.type !== WireType.LengthDelimited) return [];
    const reader = new BinaryReader(this.type === single ? this.message.subarray(this.valueAt, this.end) : this.bytes);
    return reading(() => {
      const values: number[] = [];
      while (reader.pos < reader.len) values.push(read(reader));
      return values;
    });
  }
}

/**
 * The fields of a message, in their order. Nothing is copied.
 *
 * @throws FraudstreamError `onnx_malformed` when it isn't one, or claims more bytes than there are
 */
export function* fieldsOf(message: Uint8Array): Generator<Field> {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) yield reading(() => next(reader, message));
}

function next(reader: BinaryReader, message: Uint8Array): Field {
  const start = reader.pos;
  const [no, type] = reader.tag();
  const valueAt = reader.pos;
  if (type === WireType.LengthDelimited)
    return new Field(no, type, reader.bytes(), message, start, valueAt, reader.pos);
  reader.skip(type, no);
  return new Field(no, type, NO_BYTES, message, start, valueAt, reader.pos);
}

/** @throws FraudstreamError `onnx_malformed` for whatever goes wrong */
export function reading<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new FraudstreamError("onnx_malformed", `the model is not an ONNX file: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
