import { FraudstreamError } from "../../schemas/errors.js";
import type { Tree } from "../training/trees.js";

/**
 * A tree with the cover of each node: its training rows, or any weight of which a node has what its children have
 * together.
 */
export type CoveredTree = Omit<Tree, "cover"> & { cover: ArrayLike<number> };

/** A split of a tree, and all that explaining it takes but the row. */
export interface Split {
  feature: number;
  threshold: number;
  missingLeft: number;
  left: Child;
  right: Child;
  /** The nearest split above on the same feature, and on which side of it this one is (0: left); -1: there is none. */
  above: number;
  aboveState: number;
  /** The share of the cover that passes the splits above on the same feature; 1 where there is none. */
  before: number;
}

interface Child {
  /** Splits come first, each before those below it; leaves after all splits. */
  slot: number;
  /** `before` times the share of the split's cover that goes to this child. */
  share: number;
  /** Of a leaf; 1 of a split. */
  value: number;
}

/** By how much of its cover a node may differ from its children: in ONNX they are float32, and rounded. */
const COVER_TOLERANCE = 1e-4;

/** A node that is to be looked at, and what its path says. */
interface Open {
  node: number;
  child: Child;
  /** The split above it, and which of its children it is; -1: it is the root. */
  parent: number;
  side: number;
  /** Share of the tree's cover. */
  reach: number;
  /** Features that its path tests. */
  features: number;
}

/**
 * @returns the splits; the value of the tree where nothing is known of a row; the most features that a path tests
 * @throws FraudstreamError `not_explainable` where covers are missing or don't add up
 */
export function splitsOf(tree: CoveredTree): { splits: Split[]; expected: number; mostFeatures: number } {
  const { left, right, feature, threshold, missingLeft, value, cover } = tree;
  const splits: Split[] = [];
  const parents: Pick<Open, "parent" | "side">[] = [];
  const leaves: Child[] = [];
  let expected = 0;
  let mostFeatures = 0;
  const open: Open[] = [
    { node: 0, child: { slot: 0, share: 1, value: 1 }, parent: -1, side: 0, reach: 1, features: 0 },
  ];
  for (const { node, child, parent, side, reach, features } of open) {
    if (left[node] === -1) {
      child.value = value[node];
      leaves.push(child);
      expected += reach * value[node];
      mostFeatures = Math.max(mostFeatures, features);
      continue;
    }
    const whole = cover[node];
    const parts = [left[node], right[node]].map((each) => cover[each]);
    if (!(
      whole > 0 &&
      parts[0] >= 0 &&
      parts[1] >= 0 &&
      Math.abs(parts[0] + parts[1] - whole) <= COVER_TOLERANCE * whole
    )) {
      throw new FraudstreamError(
        "not_explainable",
        "its trees have no node covers (nodes_hitrates: a node's must be its children's together)",
      );
    }
    child.slot = splits.length;
    let [above, aboveState] = [parent, side];
    while (above !== -1 && splits[above].feature !== feature[node])
      ({ parent: above, side: aboveState } = parents[above]);
    const before = above === -1 ? 1 : [splits[above].left, splits[above].right][aboveState].share;
    const [a, b] = parts.map((part): Child => ({ slot: 0, share: (before * part) / whole, value: 1 }));
    const below = { parent: splits.length, features: features + (above === -1 ? 1 : 0) };
    splits.push({
      feature: feature[node],
      threshold: threshold[node],
      missingLeft: missingLeft[node],
      left: a,
      right: b,
      above,
      aboveState,
      before,
    });
    parents.push({ parent, side });
    open.push({ node: left[node], child: a, side: 0, reach: (reach * parts[0]) / whole, ...below });
    open.push({ node: right[node], child: b, side: 1, reach: (reach * parts[1]) / whole, ...below });
  }
  leaves.forEach((leaf, i) => (leaf.slot = splits.length + i));
  return { splits, expected, mostFeatures };
}
