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
    {
      name: "local-is-a-leaf",
      severity: "error",
      comment: "what runs everything on one machine is in no image: nothing that is may import it",
      from: { pathNot: "^(pipelines/local|infra/local|tests)/" },
      to: { path: "^(pipelines/local|infra/local)/" },
    },
    {
      name: "infra-local-imports-no-pipeline",
      severity: "error",
      comment: "the engines on one machine know nothing of what runs on them",
      from: { path: "^infra/local/" },
      to: { path: "^pipelines/" },
    },
    {
      name: "roles-import-no-role",
      severity: "error",
      comment:
        "roles share code by way of pipelines/runtime and pipelines/transactions, never by importing one another",
      from: { path: "^pipelines/([^/]+)/", pathNot: "^pipelines/local/" },
      to: { path: "^pipelines/", pathNot: "^pipelines/($1|runtime|transactions)/" },
    },
    {
      name: "only-control-knows-kafka",
      severity: "error",
      comment:
        "of models/, only the control plane reads and writes Kafka; the rest is pure, or reads files and ClickHouse",
      from: { path: "^models/", pathNot: "^models/control/" },
      to: { path: "^infra/kafka/" },
    },
    {
      name: "events-stay-in-control",
      severity: "error",
      comment:
        "control events are made and published by models/control alone; others call decisions.ts, jobs.ts and " +
        "redrives.ts, and read ControlState",
      from: { pathNot: "^(models/control|tests)/" },
      to: { path: "^models/control/events" },
    },
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
    enhancedResolveOptions: {
      extensions: [".ts", ".js", ".mjs", ".json"],
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default", "types"],
    },
  },
};
