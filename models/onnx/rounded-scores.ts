/** What sums of many trees' float32 probabilities come to beyond 0 and 1 by rounding. */
const ROUNDING = 1e-5;

/** Brings scores that are outside of 0..1 only by rounding back into it, in place; others stay what they are. */
export function withoutRounding(scores: Float32Array): Float32Array {
  for (let row = 0; row < scores.length; row++) {
    const score = scores[row];
    if (score > 1 && score <= 1 + ROUNDING) scores[row] = 1;
    else if (score < 0 && score >= -ROUNDING) scores[row] = 0;
  }
  return scores;
}
