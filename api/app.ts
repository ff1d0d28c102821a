import { randomUUID } from "node:crypto";
import cors from "@fastify/cors";
import helmet from "@fastify/helmet";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify, { LogController, type FastifyInstance, type FastifyReply } from "fastify";
import type { ApiContext } from "./context.js";
import { auditTrail } from "./plugins/audit.js";
import { authenticate, authentication } from "./plugins/authentication.js";
import { problems, sendProblem } from "./plugins/errors.js";
import { httpMetrics } from "./plugins/http-metrics.js";
import { jsonBodies } from "./plugins/json-body.js";
import { openapi } from "./plugins/openapi.js";
import { packedBodies } from "./plugins/packed-bodies.js";
import { permissions } from "./plugins/permissions.js";
import { rateLimits } from "./plugins/rate-limits.js";
import { loggedRequests } from "./plugins/request-log.js";
import { onBrokenRequest } from "./plugins/broken-requests.js";
import { requestHeads } from "./plugins/request-heads.js";
import { validation } from "./plugins/validation.js";
import { artifactRoutes } from "./routes/artifacts.js";
import { auditRoutes } from "./routes/audit.js";
import { compareRoutes } from "./routes/compare.js";
import { deadLetterRoutes } from "./routes/dead-letters.js";
import { datasetRoutes } from "./routes/datasets.js";
import { deploymentRoutes } from "./routes/deployments.js";
import { driftRoutes } from "./routes/drift.js";
import { healthRoutes } from "./routes/health.js";
import { labelRoutes } from "./routes/labels.js";
import { metricsRoutes } from "./routes/metrics.js";
import { modelRoutes } from "./routes/models.js";
import { predictionListRoutes } from "./routes/prediction-list.js";
import { predictionRoutes } from "./routes/predictions.js";
import { schemaRoutes } from "./routes/schemas.js";
import { statusRoutes } from "./routes/status.js";
import { thresholdCurveRoutes } from "./routes/threshold-curve.js";
import { tokenRoutes } from "./routes/tokens.js";
import { trainingJobRoutes } from "./routes/training-jobs.js";
import { registrationRoutes, userRoutes } from "./routes/users.js";

/** What one resource adds to the app. */
type Routes = (app: FastifyInstance, context: ApiContext) => Promise<void>;

/** Routes for signed-in users who have the permission that each route names in its `config`. */
const SIGNED_IN_ROUTES: readonly Routes[] = [
  userRoutes,
  auditRoutes,
  trainingJobRoutes,
  datasetRoutes,
  metricsRoutes,
  compareRoutes,
  driftRoutes,
  modelRoutes,
  deploymentRoutes,
  predictionListRoutes,
  predictionRoutes,
  thresholdCurveRoutes,
  labelRoutes,
  deadLetterRoutes,
];

/** How long a caller may take, milliseconds. */
export interface Patience {
  /** Until its headers are there. @default 10_000 */
  headersMs?: number;
  /** Until all of its request is there. @default 120_000 */
  requestMs?: number;
}

const MOST_BODY_BYTES = 1024 * 1024;
const MOST_PARAM_LENGTH = 500;

/** Connections at a time; further ones are closed at once. */
const MOST_CONNECTIONS = 10_000;
/**
 * An answer that its caller doesn't take at this rate is cut off, once it has had this long: it is kept in memory
 * meanwhile.
 */
const LEAST_BYTES_A_SECOND = 64 * 1024;
const READ_WITHIN_MS = 30_000;

/** The API, ready to listen or to be asked through `inject`. Closing it ends no part of the context. */
export async function createApp(
  context: ApiContext,
  { headersMs = 10_000, requestMs = 120_000 }: Patience = {},
): Promise<FastifyInstance> {
  const { config, log, metrics, requestLog, cards } = context;
  const app = Fastify({
    loggerInstance: log.child({}, { serializers: { req: () => undefined, res: () => undefined } }),
    // Requests are in the request log; here are only failures.
    logController: new LogController({ disableRequestLogging: true }),
    // An id that a caller chose could stand for two requests.
    genReqId: () => randomUUID(),
    requestIdHeader: false,
    trustProxy: config.http.trustProxy.length > 0 ? config.http.trustProxy : false,
    bodyLimit: MOST_BODY_BYTES,
    requestTimeout: requestMs,
    http: { headersTimeout: Math.min(headersMs, requestMs), connectionsCheckingInterval: Math.min(1_000, headersMs) },
    keepAliveTimeout: 30_000,
    routerOptions: { maxParamLength: MOST_PARAM_LENGTH },
    forceCloseConnections: "idle",
    return503OnClosing: true,
    clientErrorHandler: onBrokenRequest,
    frameworkErrors: sendProblem,
  }).withTypeProvider<TypeBoxTypeProvider>() as unknown as FastifyInstance;

  problems(app);
  validation(app);
  jsonBodies(app);
  requestHeads(app, log);
  packedBodies(app);
  authentication(app);
  httpMetrics(app, metrics);
  loggedRequests(app, requestLog, cards);
  auditTrail(app);
  app.addHook("onRequest", (request, reply, done) => {
    reply.header("x-request-id", request.id);
    done();
  });
  // A connection that is kept alive would keep a stopping API waiting.
  let stopping = false;
  app.addHook("preClose", (done) => {
    stopping = true;
    done();
  });
  app.addHook("onSend", (_request, reply, payload, done) => {
    cutSlowReader(reply, payload);
    if (stopping) reply.header("connection", "close");
    done(null, payload);
  });
  await app.register(helmet, {
    contentSecurityPolicy: { directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
  });
  if (config.http.corsOrigins.length > 0)
    await app.register(cors, {
      origin: config.http.corsOrigins,
      methods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
      exposedHeaders: ["location", "x-request-id", "retry-after"],
    });
  await openapi(app);
  const limits = await rateLimits(app, config.http);

  // Public: these scopes have no authentication to be exempt from.
  await app.register(async (probes) => {
    probes.addHook("onRequest", limits.probes);
    await healthRoutes(probes, context);
  });
  await app.register(async (open) => {
    open.addHook("onRequest", limits.open);
    await statusRoutes(open);
    await schemaRoutes(open, context);
    await artifactRoutes(open, context);
  });
  await app.register(async (entrance) => {
    await tokenRoutes(entrance, context);
    await registrationRoutes(entrance, context, limits);
  });
  await app.register(async (signedIn) => {
    signedIn.addHook("onRequest", authenticate(context, limits));
    permissions(signedIn);
    for (const routes of SIGNED_IN_ROUTES) await signedIn.register(async (scope) => routes(scope, context));
  });
  await app.ready();
  app.server.maxConnections = MOST_CONNECTIONS;
  return app;
}

function cutSlowReader(reply: FastifyReply, payload: unknown): void {
  const bytes = typeof payload === "string" || Buffer.isBuffer(payload) ? payload.length : 0;
  if (bytes < LEAST_BYTES_A_SECOND) return;
  const { raw } = reply;
  const timer = setTimeout(() => raw.destroy(), READ_WITHIN_MS + (bytes / LEAST_BYTES_A_SECOND) * 1_000);
  timer.unref();
  raw.once("close", () => clearTimeout(timer));
}
