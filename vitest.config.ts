import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 180_000,
    pool: "forks",
    maxWorkers: 2,
    // The engines are started only for a run that has tests for them.
    projects: [
      { extends: true, test: { name: "unit", include: ["tests/unit/**/*.test.ts"] } },
      { extends: true, test: { name: "engines", include: ["tests/{integration,e2e}/**/*.test.ts"], globalSetup: "tests/support/stack.ts" } },
    ],
  },
});
