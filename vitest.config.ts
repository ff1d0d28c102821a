import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * A machine that has run nothing yet doesn't know which files take longest: one that is begun last is waited for alone.
 */
const LONGEST_FIRST = [
  "e2e/start",
  "training-role-faults",
  "scoring-workers",
  "scoring-history",
  "where-a-reader-stands",
  "scoring-bad-input",
  "training-role",
  "local-stack-processes",
  "kafka-access",
  "scoring-deployments",
  "api-models",
  "merchants",
  "kafka-reader",
  "sink",
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = LONGEST_FIRST.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return place < 0 ? LONGEST_FIRST.length : place;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 180_000,
    pool: "forks",
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    // The engines are started only for a run that has tests for them.
    projects: [
      { extends: true, test: { name: "unit", include: ["tests/unit/**/*.test.ts"] } },
      {
        extends: true,
        test: {
          name: "engines",
          include: ["tests/{integration,e2e}/**/*.test.ts"],
          globalSetup: "tests/support/stack.ts",
        },
      },
    ],
  },
});
