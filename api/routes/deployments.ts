import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import { Type } from "@sinclair/typebox";
import type { FastifyInstance, FastifyReply } from "fastify";
import { anySignal } from "../../infra/async/abort-signals.js";
import { loadArtifact } from "../../models/artifacts.js";
import type { ApiContext } from "../context.js";
import { undone } from "../deployments/decide.js";
import { BaseEpoch, Deployed, Deployer, Wait, readable } from "../deployments/deployer.js";

const UndoBody = Type.Object(
  {
    to: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description: "Epoch of the deployment to bring back. Without it: the one before the one in force",
      }),
    ),
    epoch: BaseEpoch,
  },
  { additionalProperties: false, examples: [{}] },
);
const Undone = Type.Object({
  ...Deployed.properties,
  restored: Type.Integer({ description: "Epoch of the deployment that was brought back." }),
});

/** Deployments as a whole: champion, shadows and thresholds together. */
export async function deploymentRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { control, config } = context;
  const api = app.withTypeProvider<TypeBoxTypeProvider>();
  const closing = new AbortController();
  app.addHook("preClose", (done) => {
    closing.abort();
    done();
  });
  const abortedWith = (reply: FastifyReply): AbortSignal => {
    const gone = new AbortController();
    reply.raw.once("close", () => gone.abort());
    return anySignal(gone.signal, closing.signal);
  };
  const deployer = new Deployer(context, abortedWith);

  const schema = {
    tags: ["models"],
    summary: "Undo a deployment",
    querystring: Wait,
    body: UndoBody,
    description:
      "Brings an earlier deployment back as it was, in one decision: its champion, its shadows and their " +
      "thresholds. Undoing twice brings back what was undone.",
    response: {
      200: Type.Object(Undone.properties, {
        title: "Undone",
        description: "The earlier deployment is live again, under a new epoch.",
      }),
      202: Type.Object(Undone.properties, { description: "Decided, but not live yet." }),
    },
  };
  api.post(
    "/api/v1/deployments/undo",
    { config: { permission: "deployments:write" }, schema },
    async (request, reply) => {
      const { to, epoch } = request.body;
      const { decision, restored } = undone(control.state, to);
      const answer = await deployer.decide(request, reply, epoch, decision.champion.model, async (deployment) => {
        // Of two who undo at once the second would undo the first one's.
        const now = undone(control.state, to, deployment).decision;
        for (const { model } of [now.champion, ...now.shadows])
          await readable(() => loadArtifact(config.artifacts, model, control.state.models.get(model)?.manifestSha256));
        return now;
      });
      return { ...answer, restored };
    },
  );
  return Promise.resolve();
}
