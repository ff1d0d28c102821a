// Zstandard (RFC 8878): a frame is its magic, a descriptor, blocks with headers of three bytes, and perhaps a checksum.
const MAGIC = 0xfd2fb528;
/** 0x184D2A50 to 0x184D2A5F: skippable frames. */
const SKIPPABLE = 0x184d2a5;
const LARGEST_BLOCK = 128 * 1024;
const LARGEST_WINDOW = 128 * 1024 * 1024;
const SINGLE_SEGMENT_BIT = 0b10_0000;
const CHECKSUM_BIT = 0b100;
const RAW = 0,
  RLE = 1,
  COMPRESSED = 2;

export interface ZstdFrames {
  /** The frames, with windows no larger than what they unpack to. */
  bytes: Buffer;
  /** The most that they unpack to. */
  bound: number;
  /** How many bytes fzstd moves to keep the windows: each block moves a whole one. */
  moved: number;
  /** Where each block ends. */
  blockEnds: number[];
}

/**
 * Reads the headers of frames and blocks without unpacking any. A window costs memory and time however little of it is
 * used, and Java's highest levels always ask for 128 MiB: here it is made only as large as necessary.
 *
 * @throws Error if they do not fit
 */
export function inspectZstd(packed: Buffer): ZstdFrames {
  const bytes = Buffer.from(packed);
  const blockEnds: number[] = [];
  let bound = 0;
  let moved = 0;
  for (let at = 0; at < bytes.length;) {
    const magic = bytes.readUInt32LE(at);
    if (magic >>> 4 === SKIPPABLE) {
      at += 8 + bytes.readUInt32LE(at + 4);
      continue;
    }
    if (magic !== MAGIC) throw new Error("it is not a zstd frame");
    const frame = readFrameHead(bytes, at);
    const { end, most, ends } = readBlocks(bytes, frame.blocksAt, Math.min(LARGEST_BLOCK, frame.window));
    if (frame.singleSegment && frame.window > most) throw new Error("a frame claims more than its blocks can hold");
    const window = frame.singleSegment ? frame.window : shrinkWindow(bytes, at, frame.window, most);
    bound += most;
    moved += ends.length * window;
    for (const blockEnd of ends) blockEnds.push(blockEnd);
    at = end + (frame.checksum ? 4 : 0);
  }
  return { bytes, bound, moved, blockEnds };
}

function readFrameHead(
  bytes: Buffer,
  at: number,
): { blocksAt: number; window: number; singleSegment: boolean; checksum: boolean } {
  const flags = bytes.readUInt8(at + 4);
  const singleSegment = (flags & SINGLE_SEGMENT_BIT) !== 0;
  const sizeAt = at + (singleSegment ? 5 : 6) + [0, 1, 2, 4][flags & 0b11];
  const sizeBytes = flags >> 6 === 0 ? (singleSegment ? 1 : 0) : 1 << (flags >> 6);
  const window = singleSegment ? contentSize(bytes, sizeAt, flags >> 6) : windowOf(bytes.readUInt8(at + 5));
  if (window > LARGEST_WINDOW) throw new Error(`it wants a window of more than ${LARGEST_WINDOW} bytes`);
  return { blocksAt: sizeAt + sizeBytes, window, singleSegment, checksum: (flags & CHECKSUM_BIT) !== 0 };
}

function contentSize(bytes: Buffer, at: number, flag: number): number {
  if (flag === 0) return bytes.readUInt8(at);
  if (flag === 1) return bytes.readUInt16LE(at) + 256;
  return flag === 2 ? bytes.readUInt32LE(at) : Number(bytes.readBigUInt64LE(at));
}

function windowOf(descriptor: number): number {
  return 2 ** (10 + (descriptor >> 3)) * (1 + (descriptor & 0b111) / 8);
}

/** Writes a smaller window into a frame's descriptor if everything that it unpacks to fits. @returns the window */
function shrinkWindow(bytes: Buffer, at: number, window: number, most: number): number {
  const exponent = Math.max(0, Math.ceil(Math.log2(Math.max(most, 1))) - 10);
  const smaller = 2 ** (10 + exponent);
  if (smaller >= window) return window;
  bytes[at + 5] = exponent << 3;
  return smaller;
}

function readBlocks(bytes: Buffer, blocksAt: number, largest: number): { end: number; most: number; ends: number[] } {
  const ends: number[] = [];
  let most = 0;
  for (let at = blocksAt, last = false; !last;) {
    const head = bytes.readUIntLE(at, 3);
    last = (head & 1) !== 0;
    const type = (head >> 1) & 0b11;
    const size = head >> 3;
    if (size > LARGEST_BLOCK || type > COMPRESSED) throw new Error("a block is not valid");
    at += 3 + (type === RLE ? 1 : size);
    if (at > bytes.length) throw new Error("a block is cut off");
    most += type === RAW || type === RLE ? size : largest;
    ends.push(at);
  }
  return { end: ends[ends.length - 1], most, ends };
}
