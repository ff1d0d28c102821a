/** What topics of a cluster without topic ids have. */
export const NO_TOPIC_ID = "00000000-0000-0000-0000-000000000000";

/** Records that a log lost before a group had read them, or that its fold lacks since the log has lost them. */
export interface Gap {
  /**
   * The first offset that was lost, and the first behind them that was not; equal where what is there now are other
   * records.
   */
  readonly from: number;
  readonly to: number;
  /** No event time among them is later, epoch milliseconds; null: not known yet. */
  readonly until: number | null;
}

/** So many are kept: metadata is short, and windows that reach an older gap reach the later ones, too. */
const MOST_GAPS = 8;

/**
 * What a group keeps with a committed offset, in its metadata: an offset counts for a name, and a name may come to mean
 * another topic.
 */
export interface OffsetMark {
  /** Id of the topic that the offset is of; null: committed by somebody else, or by an earlier version. */
  topicId: string | null;
  /**
   * Id of the cluster that it was committed in; null: not known. Mirrors that translate a group's offsets for their
   * cluster copy this along with them (MirrorMaker 2): then the offset is of the topic there, which has another id.
   */
  cluster: string | null;
  /** Those that windows may still reach, in the order in which they were met. */
  gaps: readonly Gap[];
}

/** Adds gaps to those of a mark. What is known of one already stays. */
export function addGaps(mark: OffsetMark, gaps: readonly Gap[]): void {
  for (const gap of gaps) {
    const isSame = ({ from, to }: Gap): boolean => from === gap.from && to === gap.to;
    if (mark.gaps.some((known) => isSame(known) && known.until !== null)) continue;
    mark.gaps = [...mark.gaps.filter((known) => !isSame(known)), gap].slice(-MOST_GAPS);
  }
}

/** As metadata of a committed offset: brokers take 4,096 bytes of it. */
export function encodeMark({ topicId, cluster, gaps }: OffsetMark): string {
  return JSON.stringify({
    ...(topicId === null ? {} : { topic_id: topicId }),
    ...(cluster === null ? {} : { cluster }),
    ...(gaps.length === 0 ? {} : { gaps }),
  });
}

/** Reads such metadata. What somebody else wrote there says nothing. */
export function decodeMark(metadata: string | null): OffsetMark {
  try {
    // An earlier version kept one.
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
 * The id of the former topic that a committed offset is of; null: it is of the topic that is there, as far as it says.
 * A cluster whose topics had no ids has given them ids since.
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
