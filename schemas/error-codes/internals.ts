import type { ErrorGroup } from "./row.js";

/** What is seen in a log only. */
export const INTERNAL_ERRORS = {
  title: "Internals",
  about: "Met in logs; over HTTP each is a 500 `internal`.",
  codes: {
    aborted: { places: ["log"], meaning: "A start was called off.", remedy: "Nothing." },
    bad_migration: {
      places: ["exit"],
      meaning: "A file of infra/clickhouse/migrations is not numbered in order.",
      remedy: "Rename it.",
    },
    batch_corrupt: {
      places: ["log"],
      meaning: "A batch can't be unpacked.",
      remedy: "See its dead letter, `batch_unreadable`.",
    },
    batch_too_large: {
      places: ["log"],
      meaning: "A batch unpacks to more than is taken at once where it can't become a dead letter.",
      remedy: "Have it removed from the topic (kafka-delete-records.sh), or see which producer wrote it.",
    },
    history_gap: {
      places: ["exit", "log"],
      meaning: "Records that the history of cards needs are neither in Kafka nor in ClickHouse.",
      remedy: "Set CLICKHOUSE_URL to where the sink has stored them.",
    },
    migration_changed: {
      places: ["exit"],
      meaning: "A migration that was applied has other statements now.",
      remedy: "Restore it, and add a new migration.",
    },
    no_permission: {
      places: ["exit"],
      meaning: "A route says nowhere who may use it.",
      remedy: "Set its `config.permission`.",
    },
    no_validator: {
      places: ["exit"],
      meaning: "A route was added without the app's validator.",
      remedy: "Report it: this is a defect.",
    },
    open_schema: {
      places: ["exit"],
      meaning: "An object in a route's schema does not say `additionalProperties`.",
      remedy: "Set it to false.",
    },
    snapshot_ahead: {
      places: ["log"],
      meaning: "A snapshot is ahead of its partition; it is passed over.",
      remedy: "Nothing.",
    },
    snapshot_unusable: {
      places: ["log"],
      meaning: "A snapshot is damaged, of another version or of another cluster; it is passed over.",
      remedy: "Nothing: more of the log is read again.",
    },
    two_schemas: {
      places: ["exit"],
      meaning: "Two schemas of the OpenAPI document have one title.",
      remedy: "Rename one.",
    },
    undecodable: {
      places: ["log", "exit"],
      meaning: "A record of one of our own topics does not fit its schema.",
      remedy: "See who else writes to the topic.",
    },
    unsealable: {
      places: ["log"],
      meaning: "What was sealed with another CARD_ID_KEY can't be opened.",
      remedy: "Set the key as it was.",
    },
  },
} as const satisfies ErrorGroup;
