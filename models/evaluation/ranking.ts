/**
 * Rows that share a score can't be told apart by any threshold, so a ranking is a list of groups, the highest score
 * first. `alerts[i]` and `caught[i]` count the rows, and the frauds among them, that score at least `scores[i]`.
 */
export interface Ranking {
  rows: number;
  frauds: number;
  scores: Float32Array;
  alerts: Uint32Array;
  caught: Uint32Array;
}

/**
 * @param labels 1: fraud, 0: genuine
 * @param scores one for each label, no NaN
 */
export function rank(labels: Uint8Array, scores: Float32Array): Ranking {
  const order = Uint32Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]);
  const ranking: Ranking = {
    rows: scores.length,
    frauds: 0,
    scores: new Float32Array(scores.length),
    alerts: new Uint32Array(scores.length),
    caught: new Uint32Array(scores.length),
  };
  let groups = 0;
  for (let i = 0; i < order.length; i++) {
    ranking.frauds += labels[order[i]];
    if (i + 1 < order.length && scores[order[i + 1]] === scores[order[i]]) continue;
    ranking.scores[groups] = scores[order[i]];
    ranking.alerts[groups] = i + 1;
    ranking.caught[groups] = ranking.frauds;
    groups += 1;
  }
  return {
    ...ranking,
    scores: ranking.scores.slice(0, groups),
    alerts: ranking.alerts.slice(0, groups),
    caught: ranking.caught.slice(0, groups),
  };
}

/** Area under the ROC curve, ties counting half (midranks: Hanley and McNeil, 1982); null without both classes. */
export function rocAuc({ rows, frauds, alerts, caught }: Ranking): number | null {
  const genuine = rows - frauds;
  if (frauds === 0 || genuine === 0) return null;
  let area = 0;
  for (let i = 0; i < alerts.length; i++) {
    const fraudsHere = caught[i] - (i > 0 ? caught[i - 1] : 0);
    const genuineHere = alerts[i] - (i > 0 ? alerts[i - 1] : 0) - fraudsHere;
    const genuineBelow = genuine - (alerts[i] - caught[i]);
    area += fraudsHere * (genuineBelow + genuineHere / 2);
  }
  return area / (frauds * genuine);
}

/** The sum over thresholds of precision times the step in recall, as scikit-learn defines it; null without frauds. */
export function averagePrecision({ frauds, alerts, caught }: Ranking): number | null {
  if (frauds === 0) return null;
  let sum = 0;
  for (let i = 0; i < alerts.length; i++) sum += (caught[i] / alerts[i]) * (caught[i] - (i > 0 ? caught[i - 1] : 0));
  return sum / frauds;
}
