import type { FastifyInstance } from "fastify";
import type { CardPseudonyms } from "../../infra/privacy/card-pseudonyms.js";
import { maskedJson, maskedUrl } from "../request-log/mask.js";
import type { RequestLog } from "../request-log/request-log.js";

declare module "fastify" {
  interface FastifyRequest {
    /** What the answer was made of. */
    answer: unknown;
    /** When the request came, epoch milliseconds. */
    arrivedAt: number;
  }
}

/** Of a body or an answer, so much is kept, characters. */
const MOST_BODY = 4_000;
/** Of an answer that says what was changed. */
const MOST_CHANGES = 250_000;
const MOST_URL = 500;

/**
 * Every request of somebody who is signed in or tries to, and its answer, go to the request log once the answer is out.
 */
export function loggedRequests(app: FastifyInstance, requestLog: RequestLog, cards: CardPseudonyms | null): void {
  const cardOf = cards === null ? null : (id: string): string => cards.ofText(id);
  app.decorateRequest("answer", undefined);
  app.decorateRequest("arrivedAt", 0);
  app.addHook("onRequest", (request, _reply, done) => {
    request.arrivedAt = Date.now();
    done();
  });
  app.addHook("preSerialization", (request, _reply, payload, done) => {
    request.answer = payload;
    done(null, payload);
  });
  app.addHook("onResponse", (request, reply, done) => {
    const who = request.signedIn?.user ?? request.tried;
    if (who !== null) {
      const { id, username, role } = who;
      // The name of a sign-in that failed may be a password, and what isn't a request of ours has its card id in any
      // place.
      const unread = request.signedIn === null || (cards !== null && reply.statusCode === 400);
      const url = unread ? request.url.split("?", 1)[0] : request.url;
      requestLog.add({
        requestId: request.id,
        at: request.arrivedAt,
        userId: id,
        username,
        role,
        method: request.method,
        route: request.routeOptions.url ?? "",
        url: maskedUrl(url, MOST_URL, cardOf),
        address: request.ip,
        body: request.body === undefined || unread ? "" : maskedJson(request.body, MOST_BODY, cardOf),
        status: reply.statusCode,
        code: request.problemCode,
        ms: reply.elapsedTime,
        answer:
          request.answer === undefined
            ? ""
            : maskedJson(request.answer, request.changes === null ? MOST_BODY : MOST_CHANGES, cardOf),
      });
    }
    done();
  });
}
