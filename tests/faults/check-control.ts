import type { ControlEvent, DeployedModel } from "../../schemas/generated.js";
import type { Complaints } from "./complaints.js";
import type { Acknowledged } from "./operators.js";

interface FoldedDeployment {
  champion: DeployedModel | null;
  shadows: DeployedModel[];
}

/** What fraud.control says, by its own rule: an event counts when it names the last accepted one of its key. */
export interface FoldedControl {
  /** By epoch, in their order. */
  deployments: Map<number, FoldedDeployment>;
  /** How each job ended, one entry an end. */
  jobs: Map<string, { ends: string[]; claims: number }>;
  /** Dead letters that were sent again, `partition/offset`. */
  replayed: Set<string>;
  events: number;
}

export function foldControl(
  events: readonly { sequence: number; offset: number; event: ControlEvent }[],
): FoldedControl {
  const folded: FoldedControl = { deployments: new Map(), jobs: new Map(), replayed: new Set(), events: events.length };
  const last = new Map<string, number>();
  for (const {
    sequence,
    offset,
    event: { key, base, event: wrapped },
  } of events) {
    if (base !== (last.get(key) ?? -1)) continue;
    last.set(key, offset);
    const [name, body] = Object.entries(wrapped)[0] as [string, Record<string, unknown>];
    const job = folded.jobs.get(key.slice("job:".length));
    if (name.endsWith(".Deployed")) folded.deployments.set(sequence, body as unknown as FoldedDeployment);
    else if (name.endsWith(".DeadLetterReplayed"))
      folded.replayed.add(`${body["partition"] as number}/${body["offset"] as number}`);
    else if (name.endsWith(".JobRequested")) folded.jobs.set(key.slice("job:".length), { ends: [], claims: 0 });
    else if (name.endsWith(".JobClaimed") && job !== undefined) job.claims += 1;
    else if (name.endsWith(".JobFinished"))
      job?.ends.push(body["code"] === null ? "processed" : `error ${body["code"] as string}`);
    else if (name.endsWith(".JobCancelled")) job?.ends.push("cancelled");
  }
  return folded;
}

/** Deployments, jobs and replays: what was acknowledged is there, once, and nothing else that wasn't asked for. */
export function checkControl(
  folded: FoldedControl,
  acknowledged: Acknowledged,
  first: number,
  complaints: Complaints,
): void {
  const epochs = [...folded.deployments.keys()];
  for (const epoch of acknowledged.deployments)
    if (!folded.deployments.has(epoch)) complaints.add("deployments lost", `epoch ${epoch} was acknowledged`);
  const latest = Math.max(first, ...acknowledged.deployments);
  const inForce = epochs.at(-1) ?? -1;
  const open = acknowledged.openDeployments;
  const unknown = epochs.filter((epoch) => epoch !== first && !acknowledged.deployments.includes(epoch));
  if (inForce !== latest && !unknown.includes(inForce))
    complaints.add("deployment in force", `it is epoch ${inForce}, the last acknowledged one is ${latest}`);
  if (unknown.length > open)
    complaints.add("deployments nobody made", `epochs ${unknown.join(", ")}; ${open} calls got no such answer`);
  for (const id of acknowledged.jobs) {
    const job = folded.jobs.get(id);
    if (job?.ends.length !== 1)
      complaints.add(
        "jobs",
        `${id} was acknowledged, and ended ` +
          `${job === undefined ? "nowhere" : `${job.ends.length} times (${job.ends.join(", ")})`}`,
      );
  }
  for (const [id, { ends }] of folded.jobs)
    if (ends.length !== 1) complaints.add("jobs without one end", `${id}: ${ends.join(", ") || "none"}`);
  for (const id of acknowledged.cancelled)
    if (folded.jobs.get(id)?.ends[0] !== "cancelled")
      complaints.add("cancelled jobs", `${id} ended as ${folded.jobs.get(id)?.ends[0]}`);
  for (const coordinates of acknowledged.replayed)
    if (!folded.replayed.has(coordinates)) complaints.add("replays lost", `dead letter ${coordinates}`);
}
