/** Records that retention deleted before a group had read them. */
export interface Gap {
  /** The first offset that was deleted unread, and the first that was not. */
  from: number;
  to: number;
  /** No event time among them is later, epoch milliseconds; null: not known yet. */
  until: number | null;
}

/** What a group keeps with a committed offset, in its metadata: an offset counts for a name, and a name may come to mean another topic. */
export interface OffsetMark {
  /** Id of the topic that the offset is of; null: committed by somebody else, or by an earlier version. */
  topicId: string | null;
  /** The latest gap; null: none is known. */
  gap: Gap | null;
}

/** As metadata of a committed offset: brokers take 4,096 bytes of it. */
export function encodeMark({ topicId, gap }: OffsetMark): string {
  return JSON.stringify({ ...(topicId === null ? {} : { topic_id: topicId }), ...(gap === null ? {} : { gap }) });
}

/** Reads such metadata. What somebody else wrote there says nothing. */
export function decodeMark(metadata: string | null): OffsetMark {
  try {
    const { topic_id: topicId, gap } = JSON.parse(metadata ?? "") as { topic_id?: unknown; gap?: unknown };
    return { topicId: typeof topicId === "string" ? topicId : null, gap: isGap(gap) ? gap : null };
  } catch {
    return { topicId: null, gap: null };
  }
}

function isGap(value: unknown): value is Gap {
  const { from, to, until } = (value ?? {}) as Partial<Gap>;
  return typeof from === "number" && typeof to === "number" && (until === null || typeof until === "number");
}
