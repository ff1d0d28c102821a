import { Type, type Static } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import type { TrainingJob } from "../../models/control/state.js";
import { cancelJob, requestJob, toldStatus } from "../../models/control/jobs.js";
import {
  JobMetrics,
  parseJobMetrics,
  DEFAULT_ALGORITHM,
  TrainingRequestBody,
} from "../../models/control/training-request.js";
import { FraudstreamError } from "../../schemas/errors.js";
import type { ApiContext } from "../context.js";
import { listAnswerFields, listFields, pageOf, sortField } from "../lists.js";
import { nameOf } from "../users/names.js";

const PATH = "/api/v1/training-jobs";
/** A trainer sends a heartbeat each second; an older one says nothing of a job's progress any more. */
const PROGRESS_MAX_AGE_MS = 30_000;

const Status = Type.Union(
  (["pending", "processing", "processed", "error", "cancelled"] as const).map((status) => Type.Literal(status)),
);
const orNull = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);

const Job = Type.Object(
  {
    id: Type.String(),
    status: Status,
    request: Type.Unknown({ description: "as requested" }),
    requested_at: Type.String(),
    requested_by: Type.String({ description: "A user's id, or system:…" }),
    requested_by_name: orNull(Type.String({ description: "Null: the user no longer exists." })),
    attempt: Type.Integer({ description: "how often a trainer has taken it; 0: not yet" }),
    claimed_at: orNull(Type.String()),
    finished_at: orNull(Type.String()),
    progress: orNull(
      Type.Object(
        { phase: Type.String(), percent: Type.Number(), rows: Type.Integer() },
        { description: "while it is being processed and its trainer sends heartbeats" },
      ),
    ),
    model: orNull(Type.String({ description: "name@version" })),
    metrics: orNull(JobMetrics),
    error: orNull(Type.Object({ code: Type.String(), reason: Type.String() }, { description: "why it failed" })),
  },
  { title: "TrainingJob", description: "A job and its progress." },
);

const Id = Type.Object({ id: Type.String({ minLength: 1, maxLength: 100 }) }, { additionalProperties: false });
const ListQuery = Type.Object(
  { status: Type.Optional(Status), sort: sortField(["-requested_at", "requested_at"]), ...listFields(1_000, 100) },
  { additionalProperties: false },
);

/** Training jobs: ask for one, look at them, cancel one. */
export function trainingJobRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  const { control } = context;

  app.post<{ Body: TrainingRequestBody }>(
    PATH,
    {
      config: { permission: "jobs:write" },
      schema: {
        tags: ["training"],
        summary: "Train a model on a linked CSV file or on stored transactions",
        body: TrainingRequestBody,
        response: {
          202: Type.Object(
            { id: Type.String() },
            {
              description:
                "The job is queued, and a trainer takes it when one is free; GET it at Location to follow " +
                "its progress.",
            },
          ),
        },
      },
    },
    async ({ body, user }, reply) => {
      const id = await context.produce((producer) =>
        requestJob(control, { who: user.id, producer }, { algorithm: DEFAULT_ALGORITHM, ...body }),
      );
      return reply.code(202).header("location", `${PATH}/${id}`).send({ id });
    },
  );

  app.get<{ Querystring: Static<typeof ListQuery> }>(
    PATH,
    {
      config: { permission: "jobs:read" },
      schema: {
        tags: ["training"],
        summary: "Training jobs, newest first",
        querystring: ListQuery,
        response: {
          200: Type.Object(
            { jobs: Type.Array(Job), ...listAnswerFields },
            { description: "Newest first, unless sort says otherwise." },
          ),
        },
      },
    },
    async ({ query: { status, sort, limit = 100, cursor } }) => {
      await control.readToEnd();
      const jobs = [...control.state.jobs.values()].filter(
        (job) => status === undefined || toldStatus(control.state, job) === status,
      );
      if (sort !== "requested_at") jobs.reverse();
      const { page, ...rest } = pageOf(jobs, ({ id }) => id, { limit, cursor });
      return { jobs: page.map((job) => shown(context, job)), ...rest };
    },
  );

  app.get<{ Params: Static<typeof Id> }>(
    `${PATH}/:id`,
    {
      config: { permission: "jobs:read" },
      schema: {
        tags: ["training"],
        summary: "A training job: progress and result",
        params: Id,
        response: { 200: Job },
      },
    },
    async ({ params: { id } }) => {
      // Another copy of the API may have taken the request a moment ago.
      if (!control.state.jobs.has(id)) await control.readToEnd();
      const job = control.state.jobs.get(id);
      if (job === undefined) throw new FraudstreamError("unknown_job", `there is no training job ${id}`);
      return shown(context, job);
    },
  );

  app.delete<{ Params: Static<typeof Id> }>(
    `${PATH}/:id`,
    {
      config: { permission: "jobs:write" },
      schema: {
        tags: ["training"],
        summary: "Cancel a training job; 409 if it has ended",
        params: Id,
        response: { 200: Job },
      },
    },
    async ({ params: { id }, user }) =>
      shown(context, await context.produce((producer) => cancelJob(control, { who: user.id, producer }, id))),
  );
  return Promise.resolve();
}

function shown({ control, workers, users }: ApiContext, job: TrainingJob): Static<typeof Job> {
  const { id, attempt } = job;
  const status = toldStatus(control.state, job);
  const beat =
    status !== "processing"
      ? undefined
      : workers
          .alive("training", PROGRESS_MAX_AGE_MS)
          .find((worker) => worker.job?.id === id && worker.job.attempt === attempt);
  const progress = beat?.job ?? null;
  return {
    id,
    status,
    attempt,
    request: requestOf(job),
    requested_at: iso(job.requestedAt),
    requested_by: job.requestedBy,
    requested_by_name: nameOf(users, job.requestedBy),
    claimed_at: job.claimedAt === null ? null : iso(job.claimedAt),
    finished_at: job.finishedAt === null ? null : iso(job.finishedAt),
    progress:
      progress === null
        ? null
        : { phase: progress.phase, percent: Math.round(progress.percent * 10) / 10, rows: progress.rows },
    model: job.model,
    metrics: parseJobMetrics(job.metrics),
    error: job.code === null ? null : { code: job.code, reason: job.reason ?? "" },
  };
}

/** Whatever stands in fraud.control, a list of jobs must be shown. */
function requestOf(job: TrainingJob): unknown {
  try {
    return JSON.parse(job.request) as unknown;
  } catch {
    return job.request;
  }
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
