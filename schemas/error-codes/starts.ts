import type { ErrorGroup } from "./row.js";

/** What ends a start: a setting, an option or the surroundings are wrong. */
export const START_ERRORS = {
  title: "Settings and starts",
  about: "A command or role prints the message, which names the setting, and ends with exit code 1.",
  codes: {
    another_key: {
      places: ["exit"],
      meaning: "DATA_DIR was begun with another CARD_ID_KEY, or with none: stored cards would not be found again.",
      remedy: "Set the key as it was, or use another DATA_DIR.",
    },
    another_simulation: {
      places: ["exit"],
      meaning: "DATA_DIR has simulated payments of another seed or size.",
      remedy: "Leave out `--seed` and `--customers`, or use another DATA_DIR.",
    },
    another_world: {
      places: ["exit"],
      meaning: "DATA_DIR has other payments, with which these would be mixed.",
      remedy: "Use another DATA_DIR.",
    },
    api_refused: {
      places: ["exit"],
      meaning: "The API refused a request of `npm start`.",
      remedy: "Do as the message says.",
    },
    bad_address: {
      places: ["exit"],
      meaning: "HOST or PORT can't be listened on.",
      remedy: "Correct HOST, PORT or METRICS_PORT.",
    },
    bad_option: {
      places: ["exit"],
      meaning: "An option of the command line is wrong.",
      remedy: "Correct it; `--help` lists the options.",
    },
    bad_setting: {
      places: ["exit"],
      meaning: "A setting is wrong, or does not fit another one.",
      remedy: "Correct it.",
    },
    bad_simulation: {
      places: ["exit"],
      meaning: "A simulation can't be made as asked for.",
      remedy: "Correct the option.",
    },
    bad_start_state: {
      places: ["exit"],
      meaning: "The file in which `npm start` keeps its state is damaged.",
      remedy: "Remove it together with its topics, or use another DATA_DIR.",
    },
    clickhouse_database: {
      places: ["exit"],
      meaning: "The ClickHouse database belongs to another Kafka cluster or TOPIC_PREFIX.",
      remedy: "Set CLICKHOUSE_DATABASE to another one.",
    },
    control_inconsistent: {
      places: ["exit"],
      meaning: "fraud.control lacks events, or mixes those of two clusters.",
      remedy: "Do as the message says; starting would put an older model in force.",
    },
    data_dir: { places: ["exit"], meaning: "DATA_DIR can't be written.", remedy: "Set it to another folder." },
    dataset_replayed: {
      places: ["exit"],
      meaning: "This file was replayed into DATA_DIR already.",
      remedy: "Use another DATA_DIR.",
    },
    first_training: {
      places: ["exit"],
      meaning: "The first training of `npm start` failed or was cancelled.",
      remedy: "Fix what the message names, and start again.",
    },
    kafka_refused: {
      places: ["exit"],
      meaning: "The brokers do not take this user, or do not allow what the role needs.",
      remedy: "Correct KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD; `npm run kafka:access` lists the rights.",
    },
    kafka_untrusted: {
      places: ["exit"],
      meaning: "The brokers' certificate is not trusted.",
      remedy: "Set KAFKA_TLS_CA.",
    },
    no_admin: {
      places: ["exit"],
      meaning: "No admin is enabled, so nobody could manage users.",
      remedy: "Set ADMIN_PASSWORD, or ADMIN_USERNAME with an identity provider.",
    },
    no_clickhouse: {
      places: ["exit", "job"],
      meaning: "CLICKHOUSE_URL is not set, and is needed.",
      remedy: "Set it; a trainer needs it for stored transactions.",
    },
    no_engines: {
      places: ["exit"],
      meaning: "There is no Kafka or no ClickHouse to use.",
      remedy: "Do one of what the message offers.",
    },
    no_kafka: { places: ["exit"], meaning: "KAFKA_BROKERS is not set, and is needed.", remedy: "Set it." },
    not_live: {
      places: ["exit"],
      meaning: "The first deployment of `npm start` did not come into force in time.",
      remedy: "Fix what the message names, and start again.",
    },
    offset_lost: {
      places: ["exit"],
      meaning: "Kafka has forgotten where the group stood, and nothing tells what was scored.",
      remedy: "Set the group's offset as the message says.",
    },
    partition_count: {
      places: ["exit"],
      meaning: "A topic has another number of partitions than TOPIC_PARTITIONS.",
      remedy: "Set TOPIC_PARTITIONS to what the topics were created with.",
    },
    port_taken: {
      places: ["exit"],
      meaning: "Another process has the port.",
      remedy: "Stop it, or set PORT or METRICS_PORT.",
    },
    role_ended: {
      places: ["exit"],
      meaning: "A role that `npm start` had started has ended.",
      remedy: "See the end of its log.",
    },
    schema_file: {
      retriable: "sometimes",
      places: ["exit", "log"],
      meaning: "A file of SCHEMAS_DIR can't be read; at a start it is wrong, later it is tried again.",
      remedy: "Correct the file or its rights.",
    },
    schema_registry: {
      places: ["exit"],
      meaning: "The schema registry did not take a schema of ours, and has none that serves.",
      remedy: "Let the user of SCHEMA_REGISTRY_USERNAME register, or register schemas/avro by hand.",
    },
    secrets: {
      places: ["exit"],
      meaning: "The secrets in DATA_DIR can't be read or written.",
      remedy: "Correct the folder's rights.",
    },
    stack_running: {
      places: ["exit"],
      meaning: "Another process uses DATA_DIR.",
      remedy: "Stop it, or use another DATA_DIR.",
    },
    suspicious_model: {
      places: ["exit"],
      meaning:
        "The first model is too good to be true: a feature may tell the label. It was trained, but not deployed.",
      remedy: "Leave the feature out with `--drop`, or say `--yes`.",
    },
    unreachable: {
      places: ["exit"],
      meaning: "Kafka or ClickHouse does not answer at the address of its setting.",
      remedy: "Start it, or correct KAFKA_BROKERS or CLICKHOUSE_URL.",
    },
    users_inconsistent: {
      places: ["exit"],
      meaning: "fraud.users lacks records, or mixes those of two clusters.",
      remedy: "Do as the message says.",
    },
  },
} as const satisfies ErrorGroup;
