import tseslint from "typescript-eslint";

const byControlAlone =
  "control events are made and published by models/control alone: call decisions.ts, jobs.ts or redrives.ts there";

export default tseslint.config(
  { ignores: ["dist/", "node_modules/", ".data/", "schemas/generated.ts", "**/*.mjs", "**/*.cjs", "eslint.config.js"] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-console": "error",
      "max-lines": ["warn", { max: 400, skipBlankLines: true, skipComments: true }],
    },
  },
  {
    files: ["api/**/*.ts", "infra/**/*.ts", "models/**/*.ts", "pipelines/**/*.ts"],
    ignores: ["models/control/**"],
    rules: {
      "no-restricted-syntax": [
        "error",
        {
          selector: "Literal[value=/^fraudstream\\.(ModelRegistered|Deployed|Job[A-Z]|DeadLetterReplayed)/]",
          message: byControlAlone,
        },
        {
          selector:
            "CallExpression[callee.property.name=/^append(To)?$/] > ObjectExpression > Property[key.name='who']",
          message: byControlAlone,
        },
        {
          selector: "CallExpression[callee.property.name='encode'] > Literal[value='control']",
          message: byControlAlone,
        },
      ],
    },
  },
);
