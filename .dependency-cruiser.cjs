/** Imports point one way: pipelines, api -> models -> infra -> schemas; tests may import anything. */
const only = (from, allowed) => ({
  name: `${from}-imports`,
  severity: "error",
  comment: `${from} may import ${[...allowed, "packages"].join(", ")}`,
  from: { path: `^${from}/` },
  to: { path: "^(schemas|infra|models|pipelines|api|tests)/", pathNot: `^(${[from, ...allowed].join("|")})/` },
});
module.exports = {
  forbidden: [
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
    { name: "not-unresolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
    only("schemas", []),
    only("infra", ["schemas"]),
    only("models", ["infra", "schemas"]),
    only("pipelines", ["models", "infra", "schemas"]),
    only("api", ["models", "infra", "schemas"]),
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { extensions: [".ts", ".js", ".mjs", ".json"], exportsFields: ["exports"], conditionNames: ["import", "node", "default", "types"] },
  },
};
