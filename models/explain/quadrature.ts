/** Points and weights of a quadrature over [0, 1]. */
export interface Quadrature {
  points: Float64Array;
  weights: Float64Array;
}

/**
 * Gauss–Legendre quadrature with n points: exact for polynomials up to degree 2n − 1. The points are the roots of the
 * Legendre polynomial of degree n, found by Newton's method (Press et al., Numerical Recipes, section 4.6), moved from
 * [−1, 1] to [0, 1].
 */
export function gaussLegendre(n: number): Quadrature {
  const points = new Float64Array(n);
  const weights = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let x = Math.cos((Math.PI * (i + 0.75)) / (n + 0.5));
    let slope = 0;
    for (let round = 0, step = 1; round < 100 && Math.abs(step) > 1e-16; round++) {
      let [former, value] = [1, x];
      for (let degree = 2; degree <= n; degree++)
        [former, value] = [value, ((2 * degree - 1) * x * value - (degree - 1) * former) / degree];
      slope = (n * (x * value - former)) / (x * x - 1);
      step = value / slope;
      x -= step;
    }
    points[i] = (1 - x) / 2;
    weights[i] = 1 / ((1 - x * x) * slope * slope);
  }
  return { points, weights };
}
