import { DamagedParquet } from "./damaged.js";

const damaged = (): DamagedParquet => new DamagedParquet("its Snappy data is damaged");

/** Unpacks a Snappy block to as many bytes as are wanted, and no more. @throws DamagedParquet */
export function unsnappy(packed: Buffer, length: number): Buffer {
  const out = Buffer.alloc(length);
  let from = headLength(packed, length);
  let to = 0;
  while (from < packed.length) {
    const tag = packed[from++];
    if ((tag & 3) === 0) {
      const extra = Math.max(0, (tag >> 2) - 59);
      if (from + extra > packed.length) throw damaged();
      const count = (extra === 0 ? tag >> 2 : packed.readUIntLE(from, extra)) + 1;
      from += extra;
      if (count > packed.length - from || count > length - to) throw damaged();
      packed.copy(out, to, from, from + count);
      from += count;
      to += count;
      continue;
    }
    const bytes = [0, 1, 2, 4][tag & 3];
    if (from + bytes > packed.length) throw damaged();
    const count = (tag & 3) === 1 ? ((tag >> 2) & 7) + 4 : (tag >> 2) + 1;
    const back = packed.readUIntLE(from, bytes) + ((tag & 3) === 1 ? (tag >> 5) << 8 : 0);
    from += bytes;
    if (back === 0 || back > to || count > length - to) throw damaged();
    to = copyWithin(out, to, back, count);
  }
  if (to !== length) throw damaged();
  return out;
}

/** Repeats what was written `back` bytes ago; what is copied may be what this writes. */
export function copyWithin(out: Buffer, to: number, back: number, count: number): number {
  if (back >= count) out.copyWithin(to, to - back, to - back + count);
  else for (let i = 0; i < count; i++) out[to + i] = out[to + i - back];
  return to + count;
}

/** Bytes before the data, which say how long it is unpacked. */
function headLength(packed: Buffer, wanted: number): number {
  let length = 0;
  for (let at = 0; at < Math.min(5, packed.length); at++) {
    length += (packed[at] & 0x7f) * 2 ** (7 * at);
    if (packed[at] >= 0x80) continue;
    if (length !== wanted) break;
    return at + 1;
  }
  throw damaged();
}
