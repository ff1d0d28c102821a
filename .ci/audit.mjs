// Prints each known vulnerability, high or critical, of the packages that production installs, and ends with code 1 if
// there is one. A registry that does not answer audits (many mirrors do not) causes a warning and no failure.
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
  // The answer is not JSON: reported below.
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
  for (const { name, severity, range, via } of found) {
    const causes = via.map((cause) => (typeof cause === "string" ? `through ${cause}` : `${cause.title} ${cause.url}`));
    console.error(`${severity}: ${name} ${range}: ${causes.join("; ")}`);
  }
  console.log(`npm audit: ${counts.critical} critical, ${counts.high} high, ${counts.total} in all`);
  if (found.length > 0) process.exitCode = 1;
}
