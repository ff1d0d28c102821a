import type { ErrorGroup } from "./row.js";

/** Other servers, and what goes wrong inside. */
export const SERVICE_ERRORS = {
  title: "Kafka, ClickHouse and other servers",
  about:
    "Retriable ones are tried again, logged, and answered with 503 and Retry-After; the others end a role " +
    "or are answered with 500. `kafka_` and the lower-case name of a Kafka protocol error " +
    "(`kafka_not_leader_or_follower`) stand for that error, whose meaning is Kafka's; only those that the " +
    "code itself makes have rows here.",
  codes: {
    clickhouse_refused: {
      retriable: "sometimes",
      places: ["exit", "job", "log"],
      meaning: "ClickHouse answered with an exception; retriable by its code.",
      remedy: "Fix what its message names; at a start, CLICKHOUSE_USER and CLICKHOUSE_PASSWORD.",
    },
    clickhouse_unreachable: {
      status: 503,
      retriable: "sometimes",
      places: ["job", "log"],
      meaning: "ClickHouse does not answer; not retriable only where the client was used wrongly.",
      remedy: "See that it runs; the sink catches up by itself.",
    },
    engine_failed: {
      retriable: "sometimes",
      places: ["exit"],
      meaning: "A Kafka or ClickHouse that `npm start` brings failed; retriable where Docker could not fetch it.",
      remedy: "See the end of its log, in the message.",
    },
    jwks_unreachable: {
      retriable: true,
      meaning: "JWKS_URL does not give keys.",
      remedy: "See that the identity provider answers.",
    },
    kafka_closed: { places: ["log"], meaning: "The client is closed: the role is stopping.", remedy: "Nothing." },
    kafka_download: {
      retriable: true,
      places: ["exit"],
      meaning: "Maven could not fetch Apache Kafka for `npm start`.",
      remedy: "See Maven's message; start again.",
    },
    kafka_log_cut_off: {
      retriable: true,
      places: ["log"],
      meaning: "A topic ends before what was read of it: records were lost.",
      remedy: "See the condition; restore the topic, or restart the role to read it anew.",
    },
    kafka_network: {
      retriable: true,
      places: ["log"],
      meaning: "The brokers could not be reached.",
      remedy: "See that they run.",
    },
    kafka_no_transaction: {
      places: ["log"],
      meaning: "A commit without a transaction.",
      remedy: "Report it: this is a defect.",
    },
    kafka_not_assigned: {
      places: ["log"],
      meaning: "Offsets of a partition that this member does not own.",
      remedy: "Report it: this is a defect.",
    },
    kafka_producer_failed: {
      retriable: true,
      places: ["log"],
      meaning: "An earlier batch of this producer failed; it is opened anew.",
      remedy: "See the earlier error.",
    },
    kafka_sasl_authentication_failed: {
      places: ["log"],
      meaning: "The brokers do not take this user (at a start: `kafka_refused`).",
      remedy: "Correct KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD.",
    },
    kafka_slow: {
      retriable: true,
      meaning: "Kafka has not stored a transaction in time.",
      remedy: "Repeat with the same id.",
    },
    kafka_topic_recreated: {
      retriable: true,
      places: ["log"],
      meaning: "A topic was deleted and created again.",
      remedy: "See the condition; restart the role where it says so.",
    },
    kafka_transaction_open: {
      places: ["log"],
      meaning: "A second transaction was begun.",
      remedy: "Report it: this is a defect.",
    },
    kafka_untrusted_certificate: {
      places: ["log"],
      meaning: "The brokers' certificate is not trusted (at a start: `kafka_untrusted`).",
      remedy: "Set KAFKA_TLS_CA.",
    },
    schema_registry_unreachable: {
      retriable: true,
      places: ["log"],
      meaning: "The schema registry does not answer, or lacks a schema that another refers to.",
      remedy: "See that it runs; records of unknown schemas wait.",
    },
  },
} as const satisfies ErrorGroup;
