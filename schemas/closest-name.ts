/** A name that differs in more letters, or in more of its letters, was hardly meant: one edit for so many of them. */
interface Tolerance {
  mostEdits: number;
  lettersPerEdit: number;
}

const TOLERANCE: Tolerance = { mostEdits: 2, lettersPerEdit: 3 };

/** Which of some names is meant by one that is none of them, but nearly; null: none. */
export function closestName(
  name: string,
  known: readonly string[],
  { mostEdits, lettersPerEdit } = TOLERANCE,
): string | null {
  if (known.includes(name)) return null;
  const [nearest] = known
    .map((each) => ({ each, distance: editDistance(name.toLowerCase(), each.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance) as ({ each: string; distance: number } | undefined)[];
  return nearest !== undefined &&
    nearest.distance <= Math.min(mostEdits, Math.floor(nearest.each.length / lettersPerEdit))
    ? nearest.each
    : null;
}

/** Letters to insert, remove or change; two neighbours that changed places count once. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      next[j] = Math.min(last[j] + 1, next[j - 1] + 1, last[j - 1] + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        next[j] = Math.min(next[j], before[j - 2] + 1);
    }
    [before, last] = [last, next];
  }
  return last[b.length];
}
