/**
 * Average precision (the sum of precision times the step in recall over distinct scores, as scikit-learn defines it),
 * quick where frauds are few: only they are sorted, and every genuine row finds its place among them.
 *
 * @param scores any monotone score, no NaN
 * @param labels at least one fraud
 */
export function averagePrecision(scores: Float64Array, labels: Uint8Array): number {
  let frauds = 0;
  for (const label of labels) frauds += label;
  const sorted = new Float64Array(frauds);
  for (let row = 0, at = 0; row < labels.length; row++) if (labels[row] === 1) sorted[at++] = scores[row];
  sorted.sort();
  // above[i]: genuine rows that score at least as high as i + 1 of the sorted frauds, and no more.
  const above = new Float64Array(frauds + 1);
  const lowest = sorted[0];
  for (let row = 0; row < labels.length; row++) {
    const score = scores[row];
    if (labels[row] === 1 || score < lowest) continue;
    let low = 0;
    for (let high = frauds; low < high;) {
      const middle = (low + high) >>> 1;
      if (sorted[middle] <= score) low = middle + 1;
      else high = middle;
    }
    above[low]++;
  }
  let sum = 0;
  let genuine = 0;
  let caught = 0;
  for (let i = frauds - 1; i >= 0;) {
    const score = sorted[i];
    const before = caught;
    genuine += above[i + 1];
    for (i--; i >= 0 && sorted[i] === score; i--) genuine += above[i + 1];
    caught = frauds - 1 - i;
    sum += (caught / (caught + genuine)) * (caught - before);
  }
  return sum / frauds;
}
