import type { ErrorGroup } from "./row.js";

/** What the API answers. Uploads of models have a group of their own. */
export const REQUEST_ERRORS = {
  title: "Requests",
  about: "Answered as `application/problem+json`; `detail` and `errors` say which field, header or value is meant.",
  codes: {
    bad_request: {
      status: 400,
      meaning: "The request is not HTTP as the API takes it.",
      remedy: "Correct the request as `detail` says.",
    },
    invalid_request: {
      status: 400,
      meaning: "A field, parameter or header has a wrong value, or is not known.",
      remedy: "Correct the fields that `errors` names.",
    },
    bad_url: { status: 400, meaning: "The path is not validly percent-encoded.", remedy: "Encode the path." },
    bad_json: { status: 400, meaning: "The body is not JSON.", remedy: "Send valid JSON." },
    empty_body: {
      status: 400,
      meaning: "The body is empty, but its content type is JSON.",
      remedy: "Send a body, or no content type.",
    },
    too_deep: { status: 400, meaning: "The body is nested too deeply.", remedy: "Send a flatter body." },
    bad_content_length: {
      status: 400,
      meaning: "The body's length differs from Content-Length.",
      remedy: "Correct the header.",
    },
    bad_encoding: {
      status: 400,
      meaning: "The body can't be unpacked as its Content-Encoding says.",
      remedy: "Correct the header or the packing.",
    },
    repeated_header: {
      status: 400,
      meaning: "A header that may stand once is there more than once.",
      remedy: "Send it once; look for a proxy that adds it.",
    },
    weak_password: {
      status: 400,
      meaning: "The password contains the username.",
      remedy: "Choose another password.",
    },
    no_token: {
      status: 401,
      meaning: "The route needs a user, and the request has no token.",
      remedy: "Sign in first.",
    },
    bad_token: {
      status: 401,
      meaning: "The token is malformed, not from this API's issuer, or signed with a key that is not in use.",
      remedy: "Sign in again.",
    },
    token_expired: { status: 401, meaning: "The token's lifetime is over.", remedy: "Sign in again." },
    token_not_yet_valid: {
      status: 401,
      meaning: "The token is valid only from a later time on.",
      remedy: "Correct the clock of the identity provider or of this machine.",
    },
    token_revoked: {
      status: 401,
      meaning: "The password was changed after the token was made.",
      remedy: "Sign in again.",
    },
    user_disabled: { status: 401, meaning: "The token's user is disabled.", remedy: "Ask an admin." },
    wrong_credentials: {
      status: 401,
      meaning: "The username or the password is wrong, or the user is disabled.",
      remedy: "Correct them, or ask an admin.",
    },
    unauthenticated: {
      status: 401,
      meaning: "The request for a model's files does not show ARTIFACTS_TOKEN.",
      remedy: "Set the same ARTIFACTS_TOKEN for the API and the workers.",
    },
    forbidden: {
      status: 403,
      meaning: "The user's role may not do this.",
      remedy: "Ask somebody who may, or an admin for another role.",
    },
    sign_in_off: {
      status: 403,
      meaning: "An identity provider manages sign-in and passwords (JWKS_URL).",
      remedy: "Sign in, or change the password, there.",
    },
    wrong_password: { status: 403, meaning: "The current password is wrong.", remedy: "Give the right one." },
    not_found: {
      status: 404,
      otherStatuses: [414],
      meaning: "There is no such route.",
      remedy: "Correct the path or the method.",
    },
    unknown_model: {
      status: 404,
      places: ["log"],
      meaning: "No model with this id is registered.",
      remedy: "Take an id from `GET /api/v1/models`.",
    },
    unknown_deployment: {
      status: 404,
      meaning: "There was no deployment with this epoch.",
      remedy: "Take the epoch of an earlier deployment, as predictions and workers name it.",
    },
    unknown_user: {
      status: 404,
      otherStatuses: [401],
      meaning: "There is no such user; with 401: the token's user was removed.",
      remedy: "Correct the id; with 401: ask an admin.",
    },
    unknown_job: {
      status: 404,
      places: ["exit"],
      meaning: "There is no such training job.",
      remedy: "Correct the id.",
    },
    unknown_prediction: {
      status: 404,
      meaning: "There is no prediction of this transaction, and none on its way that this user may see.",
      remedy: "Correct the id, or look among the dead letters.",
    },
    unknown_dead_letter: {
      status: 404,
      meaning: "There is no dead letter at these coordinates, or not any more.",
      remedy: "List the dead letters again.",
    },
    unknown_subject: {
      status: 404,
      meaning: "The API's list of schemas has no such subject.",
      remedy: "Ask for the name of a topic with `-value` behind it.",
    },
    unknown_artifact: {
      status: 404,
      meaning: "No registered model has a manifest with this hash.",
      remedy: "Nothing by hand: workers ask for registered models only.",
    },
    registry_elsewhere: {
      status: 404,
      meaning: "The API serves schemas only where no schema registry is configured.",
      remedy: "Ask the registry that SCHEMA_REGISTRY_URL names.",
    },
    request_timeout: {
      status: 408,
      meaning: "The request took too long to arrive.",
      remedy: "Send it again, faster.",
    },
    conflict: {
      status: 409,
      places: ["log"],
      meaning: "Somebody else changed it in the meantime, or it has ended already.",
      remedy: "Look at it again, and repeat.",
    },
    username_taken: { status: 409, meaning: "There is a user with this name.", remedy: "Choose another name." },
    last_admin: {
      status: 409,
      meaning: "No admin would be left who is enabled.",
      remedy: "Make another admin first.",
    },
    is_champion: {
      status: 409,
      meaning: "The champion can't be made a shadow.",
      remedy: "Enable another model as champion first.",
    },
    no_champion: {
      status: 409,
      otherStatuses: [503],
      meaning: "No champion is deployed: nothing would be scored.",
      remedy: "Enable a model as champion.",
    },
    not_enabled: {
      status: 409,
      meaning: "The model is in no deployment, so it has no thresholds to set.",
      remedy: "Enable it first.",
    },
    nothing_to_undo: {
      status: 409,
      meaning: "There is no earlier deployment to go back to.",
      remedy: "Enable a model instead.",
    },
    already_replayed: { status: 409, meaning: "This dead letter was sent again already.", remedy: "Nothing." },
    replay_under_way: {
      status: 409,
      meaning: "Somebody else is sending dead letters again at the moment.",
      remedy: "Look at them, and repeat.",
    },
    body_too_large: {
      status: 413,
      meaning: "The body is larger than the route takes.",
      remedy: "Send less at once.",
    },
    unsupported_media_type: {
      status: 415,
      meaning: "The route does not take bodies of this content type.",
      remedy: "Send the content type that the route's documentation names.",
    },
    unsupported_encoding: {
      status: 415,
      meaning: "The API does not unpack bodies of this Content-Encoding.",
      remedy: "Use one that Accept-Encoding of the answer names.",
    },
    unknown_card: {
      status: 422,
      meaning: "A label names no card, and no prediction of its transaction is stored.",
      remedy: "Give `card_id`.",
    },
    ambiguous_card: {
      status: 422,
      meaning: "A label names no card, and several cards have a transaction of this id.",
      remedy: "Give `card_id`.",
    },
    too_many_requests: {
      status: 429,
      meaning: "The user or the address has made too many requests.",
      remedy: "Wait as long as Retry-After says.",
    },
    too_many_queries: {
      status: 429,
      meaning: "As many queries of this user are under way as one user may have.",
      remedy: "Wait for one of them to end.",
    },
    headers_too_large: {
      status: 431,
      meaning: "The request's headers are too long.",
      remedy: "Send fewer or shorter ones.",
    },
    caller_gone: {
      status: 499,
      meaning: "The caller closed the connection before the answer.",
      remedy: "Nothing; it is only logged.",
    },
    internal: {
      status: 500,
      meaning: "Something failed in the API that the caller cannot fix.",
      remedy: "Look in the API's log for the request id.",
    },
    busy: {
      status: 503,
      retriable: true,
      meaning: "Too many passwords, queries, models or files are being checked at once, or a check took too long.",
      remedy: "Repeat after Retry-After.",
    },
    overloaded: {
      status: 503,
      retriable: true,
      meaning: "More predictions are asked for than are answered in time.",
      remedy: "Repeat after Retry-After; add scoring workers if it lasts.",
    },
    query_too_long: {
      status: 503,
      meaning: "The query took ClickHouse longer than it may.",
      remedy: "Ask for less, such as a shorter window.",
    },
    stopping: {
      status: 503,
      retriable: true,
      meaning: "This copy of the API is stopping.",
      remedy: "Repeat; another copy answers.",
    },
    users_stale: {
      status: 503,
      retriable: true,
      meaning: "This copy of the API has not read from Kafka who is disabled for over two minutes.",
      remedy: "Repeat; see that Kafka answers.",
    },
  },
} as const satisfies ErrorGroup;
