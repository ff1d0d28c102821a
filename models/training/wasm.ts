/**
 * A small assembler for WebAssembly: just what kernels.ts and models/onnx/tree-kernel.ts need. Numbers are the opcodes
 * of the WebAssembly specification (core 2.0, with fixed-width SIMD).
 */
export type Code = number[];
export type ValueType = "i32" | "f32" | "f64" | "v128";

const TYPES: Readonly<Record<ValueType, number>> = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b };
const NO_RESULT = 0x40;

function unsigned(n: number): Code {
  const bytes: Code = [];
  for (; n > 127; n >>>= 7) bytes.push((n & 127) | 128);
  return [...bytes, n];
}

function signed(n: number): Code {
  const bytes: Code = [];
  for (; n < -64 || n > 63; n >>= 7) bytes.push((n & 127) | 128);
  return [...bytes, n & 127];
}

function simd(opcode: number): Code {
  return [0xfd, ...unsigned(opcode)];
}

/** Instructions; operands come before them, as on the stack. Loads and stores take a byte offset. */
export const op = {
  i32: (n: number): Code => [0x41, ...signed(n)],
  load32: (offset = 0): Code => [0x28, 2, ...unsigned(offset)],
  load16: (offset = 0): Code => [0x2f, 1, ...unsigned(offset)],
  load8: (offset = 0): Code => [0x2d, 0, ...unsigned(offset)],
  store32: (): Code => [0x36, 2, 0],
  loadF32: (offset = 0): Code => [0x2a, 2, ...unsigned(offset)],
  storeF32: (): Code => [0x38, 2, 0],
  loadF64: (offset = 0): Code => [0x2b, 3, ...unsigned(offset)],
  storeF64: (offset = 0): Code => [0x39, 3, ...unsigned(offset)],
  loadV128: (): Code => [...simd(0), 4, 0],
  storeV128: (): Code => [...simd(11), 4, 0],
  addF64x2: simd(0xf0),
  subF64x2: simd(0xf1),
  add: [0x6a],
  sub: [0x6b],
  and: [0x71],
  or: [0x72],
  isZero: [0x45],
  shiftLeft: [0x74],
  equal: [0x46],
  below: [0x49],
  atMost: [0x4d],
  addF32: [0x92],
  differF32: [0x5c],
  atMostF32: [0x5f],
  addF64: [0xa0],
  subF64: [0xa1],
  mulF64: [0xa2],
  divF64: [0xa3],
  equalF64: [0x61],
  belowF64: [0x63],
  aboveF64: [0x64],
  /** Leaves the block, or starts the loop again, that is so many levels out, if the operand is not 0. */
  branchIf: (levels: number): Code => [0x0d, levels],
  if: (...body: Code[]): Code => [0x04, NO_RESULT, ...body.flat(), 0x0b],
  block: (...body: Code[]): Code => [0x02, NO_RESULT, ...body.flat(), 0x0b],
  loop: (...body: Code[]): Code => [0x03, NO_RESULT, ...body.flat(), 0x0b],
};

/** A parameter or local variable. */
export interface Local {
  type: ValueType;
  get: Code;
  set: Code;
  /** Sets it and leaves the value on the stack. */
  tee: Code;
}

/** A function under construction. */
export class FunctionBuilder {
  readonly #types: ValueType[] = [];
  #params = 0;
  #body: Code = [];
  readonly #result: ValueType | null;

  constructor(result: ValueType | null) {
    this.#result = result;
  }

  /** Parameters come before locals. */
  param(type: ValueType): Local {
    this.#params++;
    return this.local(type);
  }

  local(type: ValueType): Local {
    const index = unsigned(this.#types.push(type) - 1);
    return { type, get: [0x20, ...index], set: [0x21, ...index], tee: [0x22, ...index] };
  }

  body(...code: Code[]): this {
    this.#body = code.flat();
    return this;
  }

  signature(): Code {
    const params = this.#types.slice(0, this.#params).map((type) => TYPES[type]);
    return [0x60, ...unsigned(params.length), ...params, ...(this.#result === null ? [0] : [1, TYPES[this.#result]])];
  }

  code(): Code {
    const locals = this.#types.slice(this.#params).map((type) => [1, TYPES[type]]);
    const code = [...unsigned(locals.length), ...locals.flat(), ...this.#body, 0x0b];
    return [...unsigned(code.length), ...code];
  }
}

/** The limits of an imported memory: shared between threads, up to 4 GB; or one of the instance's own. */
const MEMORIES = { shared: [3, ...unsigned(1), ...unsigned(65_536)], own: [0, ...unsigned(1)] } as const;

/** A module that exports the functions and imports a memory as `env.memory`. */
export function assemble(
  functions: Readonly<Record<string, FunctionBuilder>>,
  memory: keyof typeof MEMORIES = "shared",
): Uint8Array<ArrayBuffer> {
  const section = (id: number, items: Code[]): Code => {
    const content = [...unsigned(items.length), ...items.flat()];
    return [id, ...unsigned(content.length), ...content];
  };
  const text = (name: string): Code => [...unsigned(name.length), ...Buffer.from(name)];
  const builders = Object.entries(functions);
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(
      1,
      builders.map(([, builder]) => builder.signature()),
    ),
    ...section(2, [[...text("env"), ...text("memory"), 2, ...MEMORIES[memory]]]),
    ...section(
      3,
      builders.map((_, i) => unsigned(i)),
    ),
    ...section(
      7,
      builders.map(([name], i) => [...text(name), 0, ...unsigned(i)]),
    ),
    ...section(
      10,
      builders.map(([, builder]) => builder.code()),
    ),
  ]);
}
