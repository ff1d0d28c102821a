// Known vulnerabilities of what production installs, high or critical: each is printed, and ends this with code 1. Where the registry
// can't be asked (many mirrors don't take audits), a warning says so, and it is nobody's failure.
import { spawnSync } from "node:child_process";

const { stdout } = spawnSync("npm", ["audit", "--omit=dev", "--audit-level=high", "--json"], {
  encoding: "utf8",
  maxBuffer: 64 * 1024 * 1024,
  timeout: 120_000,
  stdio: ["ignore", "pipe", "ignore"],
});
let report = {};
try {
  report = JSON.parse(stdout);
} catch {
  // Nothing that could be read: said below.
}
const counts = report.metadata?.vulnerabilities;
if (counts === undefined) {
  const why =
    report.statusCode === undefined ? (report.error?.summary ?? "no answer") : `it answered ${report.statusCode}`;
  console.warn(`WARNING: dependencies were NOT audited: the registry does not take npm audit here (${why})`);
} else {
  const found = Object.values(report.vulnerabilities ?? {}).filter(
    ({ severity }) => severity === "high" || severity === "critical",
  );
  for (const { name, severity, range, via } of found)
    console.error(
      `${severity}: ${name} ${range}: ${via.map((cause) => (typeof cause === "string" ? `through ${cause}` : `${cause.title} ${cause.url}`)).join("; ")}`,
    );
  console.log(`npm audit: ${counts.critical} critical, ${counts.high} high, ${counts.total} in all`);
  if (found.length > 0) process.exitCode = 1;
}
