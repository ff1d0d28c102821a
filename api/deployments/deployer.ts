import { Type } from "@sinclair/typebox";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ArtifactError } from "../../models/artifacts.js";
import type { Deployment } from "../../models/control/state.js";
import { deploy } from "../../models/control/decisions.js";
import type { ApiContext } from "../context.js";
import { HttpProblem } from "../plugins/errors.js";
import type { Decision } from "./decide.js";
import { LIVE_WITHIN_MS, waitUntilLive } from "./liveness.js";
import { LivenessSchema, livenessView } from "./model-views.js";

export const Wait = Type.Object(
  {
    wait_ms: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: LIVE_WITHIN_MS,
        default: LIVE_WITHIN_MS,
        description: "How long the answer may wait for the deployment to be live.",
      }),
    ),
  },
  { additionalProperties: false },
);
export const BaseEpoch = Type.Optional(
  Type.Union([Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), Type.Null()], {
    description:
      "The epoch of the deployment that the caller knows (null: none); 409 if another one is in force. Also " +
      "accepted as If-Match.",
  }),
);
export const Deployed = Type.Object({
  model: Type.String(),
  changed: Type.Boolean({ description: "False: it was so already." }),
  ...LivenessSchema.properties,
});

type DeployingRequest = FastifyRequest<{ Querystring: { wait_ms?: number } }>;

/** Writes decisions down, and waits until they are live. */
export class Deployer {
  readonly #context: ApiContext;
  readonly #abortedWith: (reply: FastifyReply) => AbortSignal;

  /** @param abortedWith gives a signal that aborts when a caller is gone, or the app is closing */
  constructor(context: ApiContext, abortedWith: (reply: FastifyReply) => AbortSignal) {
    this.#context = context;
    this.#abortedWith = abortedWith;
  }

  /**
   * Decides on the grounds of the deployment that this copy knows now, so that of two who decide at once one is told;
   * then waits until the decision is live.
   *
   * @param epoch the deployment that the caller knows; undefined: whatever is in force, or what If-Match says
   * @param model whose page tells how the decision stands
   * @param choose says what is to be in force; null: what is
   */
  async decide(
    request: DeployingRequest,
    reply: FastifyReply,
    epoch: number | null | undefined,
    model: string,
    choose: (deployment: Deployment | null) => Promise<Decision | null>,
  ) {
    const { control, log, metrics } = this.#context;
    const known = control.state.deployment;
    const base = await this.#checkedBase(known, epoch ?? (epoch === null ? -1 : ifMatch(request)));
    const deployment = base === (known?.epoch ?? -1) ? known : control.state.deployment;
    const decision = await choose(deployment);
    const decidedAt = performance.now();
    const inForce =
      decision === null
        ? (deployment?.epoch ?? null)
        : await this.#context.produce((producer) =>
            deploy(control, { who: request.user.id, producer }, decision, base),
          );
    if (decision !== null) log.info({ epoch: inForce, model, who: request.user.id }, "a deployment was decided");
    // Nothing was ever deployed, and nothing is to be: that is in force everywhere.
    if (inForce === null)
      return { model, changed: false, epoch: -1, live: true, missing_partitions: [], refused: [], problems: [] };
    const liveness = await waitUntilLive(this.#context, inForce, {
      timeoutMs: request.query.wait_ms ?? LIVE_WITHIN_MS,
      signal: this.#abortedWith(reply),
    });
    if (decision !== null && liveness.live) metrics.swapSeconds.observe((performance.now() - decidedAt) / 1_000);
    void reply.code(liveness.live ? 200 : 202).header("etag", `"${inForce}"`);
    if (!liveness.live) void reply.header("location", locationOf(model));
    return { model, changed: decision !== null, ...livenessView(inForce, liveness) };
  }

  /** The base of a new deployment. @throws HttpProblem 409 when the caller's isn't what is in force */
  async #checkedBase(known: Deployment | null, asked: number | undefined): Promise<number> {
    const { control } = this.#context;
    const base = known?.epoch ?? -1;
    if (asked === undefined || asked === base) return base;
    // The caller may have it from a copy that is ahead of this one.
    if (asked > base) await control.readToEnd();
    const now = control.state.deployment?.epoch ?? -1;
    if (asked === now) return now;
    throw new HttpProblem(
      "conflict",
      `the deployment in force is ${now === -1 ? "none" : `epoch ${now}`}, not ` +
        `${asked === -1 ? "none" : `epoch ${asked}`}; look at it again and repeat`,
    );
  }
}

export function locationOf(model: string): string {
  return `/api/v1/models/${encodeURIComponent(model)}`;
}

/** The epoch of an If-Match header; undefined: any. */
function ifMatch({ headers }: FastifyRequest): number | undefined {
  const header = headers["if-match"];
  if (header === undefined || header === "*") return undefined;
  const epoch = /^"(\d{1,15})"$/.exec(header)?.[1];
  if (epoch === undefined)
    throw new HttpProblem("invalid_request", 'If-Match must be the epoch in quotation marks, as in "12"', {
      errors: [{ in: "header", field: "if-match", code: "pattern", message: 'must be an epoch such as "12"' }],
    });
  return Number(epoch);
}

/** An artifact that can't be read can't be enabled; what is wrong with it is for operators to see. */
export async function readable<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof ArtifactError)
      throw new HttpProblem(error.code, `the model's artifact can't be used (${error.code})`, {
        status: 409,
        cause: error,
      });
    throw error;
  }
}
