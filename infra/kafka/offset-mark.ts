/** The topic id in a cluster without topic ids. */
export const NO_TOPIC_ID = "00000000-0000-0000-0000-000000000000";

/** Records that a log lost before a group had read them, or that its fold lacks because the log has lost them. */
export interface Gap {
  /**
   * The first offset that was lost, and the first one after it that was not; equal if other records have taken their
   * place.
   */
  readonly from: number;
  readonly to: number;
  /** No lost record has a later event time, epoch milliseconds; null: not known yet. */
  readonly until: number | null;
}

/** How many gaps are kept: metadata is short, and windows that reach an older gap reach the later ones, too. */
const MOST_GAPS = 8;

/**
 * What a group stores with a committed offset, in its metadata: an offset is committed for a topic name, and the name
 * may later refer to another topic.
 */
export interface OffsetMark {
  /** Id of the topic that the offset belongs to; null: committed by somebody else, or by an earlier version. */
  topicId: string | null;
  /**
   * Id of the cluster that it was committed in; null: not known. Mirrors that translate a group's offsets for their
   * cluster copy this as well (MirrorMaker 2): then the offset belongs to the topic there, which has another id.
   */
  cluster: string | null;
  /** Gaps that windows may still reach, in the order in which they were found. */
  gaps: readonly Gap[];
}

/** Adds gaps to those of a mark. What is already known of a gap stays. */
export function addGaps(mark: OffsetMark, gaps: readonly Gap[]): void {
  for (const gap of gaps) {
    const isSame = ({ from, to }: Gap): boolean => from === gap.from && to === gap.to;
    if (mark.gaps.some((known) => isSame(known) && known.until !== null)) continue;
    mark.gaps = [...mark.gaps.filter((known) => !isSame(known)), gap].slice(-MOST_GAPS);
  }
}

/** Encoded as metadata of a committed offset: brokers accept 4,096 bytes of it. */
export function encodeMark({ topicId, cluster, gaps }: OffsetMark): string {
  return JSON.stringify({
    ...(topicId === null ? {} : { topic_id: topicId }),
    ...(cluster === null ? {} : { cluster }),
    ...(gaps.length === 0 ? {} : { gaps }),
  });
}

/** Reads such metadata. Metadata written by somebody else is ignored. */
export function decodeMark(metadata: string | null): OffsetMark {
  try {
    // An earlier version kept one gap.
    const {
      topic_id: topicId,
      cluster,
      gap,
      gaps = [gap],
    } = JSON.parse(metadata ?? "") as { topic_id?: unknown; cluster?: unknown; gap?: unknown; gaps?: unknown };
    return {
      topicId: textOrNull(topicId),
      cluster: textOrNull(cluster),
      gaps: Array.isArray(gaps) ? gaps.filter(isGap) : [],
    };
  } catch {
    return { topicId: null, cluster: null, gaps: [] };
  }
}

/**
 * The id of the former topic that a committed offset belongs to; null: it belongs to the current one, as far as it
 * says. A cluster whose topics had no ids may have given them ids since.
 */
export function formerTopicOf(kept: OffsetMark, present: OffsetMark): string | null {
  const isElsewhere = kept.cluster !== null && present.cluster !== null && kept.cluster !== present.cluster;
  if (isElsewhere || kept.topicId === NO_TOPIC_ID || kept.topicId === present.topicId) return null;
  return kept.topicId;
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function isGap(value: unknown): value is Gap {
  const { from, to, until } = (value ?? {}) as Partial<Gap>;
  return typeof from === "number" && typeof to === "number" && (until === null || typeof until === "number");
}
