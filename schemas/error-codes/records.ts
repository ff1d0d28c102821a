import type { ErrorGroup } from "./row.js";

/** Why a record could not be used: in the header `code` of its dead letter. */
export const RECORD_ERRORS = {
  title: "Records (dead letters)",
  about:
    "In the header `code` of a dead letter, beside `step`. A transaction of `POST /api/v1/predictions` " +
    "that becomes one is answered with this code and 422 (a repeat: 409). `POST " +
    "/api/v1/dead-letters/{partition}/{offset}/mend` sends what a record should have said, `POST " +
    "/api/v1/dead-letters/replay` sends records again that can be used by now.",
  codes: {
    avro_trailing: {
      places: ["decode"],
      meaning: "The Avro value has bytes behind what its schema describes.",
      remedy: "Have the producer write with the schema that it names.",
    },
    avro_truncated: {
      places: ["decode"],
      meaning: "The Avro value ends before its schema does, or does not fit it.",
      remedy: "Have the producer write with the schema that it names.",
    },
    bad_amount: {
      places: ["decode"],
      meaning: "The amount is not a finite number.",
      remedy: "Correct the producer.",
    },
    bad_attribute: {
      places: ["decode"],
      meaning: "An attribute is too large for a feature, which is a float32.",
      remedy: "Correct the producer.",
    },
    bad_currency: {
      places: ["decode", "job", "exit"],
      meaning: "The currency is not three capital letters (ISO 4217).",
      remedy: "Correct the producer, or the option `--currency`.",
    },
    bad_event_time: {
      places: ["decode"],
      meaning: "The event time is not epoch milliseconds, a timestamp or ISO 8601 with a zone.",
      remedy: "Correct the producer.",
    },
    bad_time: {
      places: ["store-labels", "log"],
      meaning: "A time is outside what ClickHouse can store (1970 to 2299), or a label is from more than a day ahead.",
      remedy: "Correct the producer or its clock.",
    },
    bad_verdict: {
      places: ["store-labels"],
      meaning: "A label's `is_fraud` is missing, or neither true nor false.",
      remedy: "Correct the source of the labels.",
    },
    batch_unreadable: {
      places: ["decode", "read"],
      meaning: "A batch could not be unpacked: too large, cut off, a wrong checksum, an unknown codec.",
      remedy: "Have the producer send it again; the headers have its first and last offset.",
    },
    empty_value: {
      places: ["decode", "store-labels"],
      meaning: "The record has no value.",
      remedy: "Have the producer or connector leave tombstones out.",
    },
    event_time_ahead: {
      places: ["decode"],
      meaning: "The event time is more than five minutes ahead of the record's time, or of the present.",
      remedy: "Correct the producer's clock, then replay.",
    },
    event_time_early: {
      places: ["decode"],
      meaning: "The event time is before 2000.",
      remedy: "Correct the unit of the producer's times.",
    },
    incompatible_schema: {
      places: ["store-labels", "log"],
      meaning: "The writer's schema can't be read as the expected record (of a transaction: `schema_mismatch`).",
      remedy: "Have the producer use a compatible schema.",
    },
    invalid_utf8: {
      status: 400,
      places: ["decode", "store-labels"],
      meaning: "The JSON, an id or a text is not UTF-8.",
      remedy: "Correct the sender.",
    },
    json_duplicate_key: {
      places: ["decode", "store-labels"],
      meaning: "A JSON object has a key twice.",
      remedy: "Correct the producer.",
    },
    json_invalid: {
      places: ["decode", "store-labels"],
      meaning: "The value is not a JSON object, though it begins like one or is declared as one.",
      remedy: "Correct the producer.",
    },
    json_unknown_key: {
      places: ["decode", "store-labels"],
      meaning: "The JSON has a key that a transaction or label does not have.",
      remedy: "Put further values into `attributes`, or map the field (TRANSACTIONS_FIELDS, LABELS_FIELDS).",
    },
    json_wrong_type: {
      places: ["decode", "store-labels"],
      meaning: "A field of the JSON has another type than is expected.",
      remedy: "Correct the producer.",
    },
    long_id: { places: ["decode", "store-labels"], meaning: "An id is longer than is taken.", remedy: "Shorten it." },
    malformed_avro: {
      places: ["store-labels", "log"],
      meaning: "The bytes do not fit their schema (of a transaction: `avro_truncated`, `avro_trailing`).",
      remedy: "Have the producer write with the schema that it names.",
    },
    misplaced_too_large: {
      places: ["history"],
      meaning: "The record stands in another partition than its card's, and is too large to be sent there.",
      remedy: "Have the producer use the card id as the key, and murmur2.",
    },
    missing_field: {
      places: ["decode", "store-labels"],
      meaning: "The JSON lacks a field.",
      remedy: "Correct the producer, or map the field (TRANSACTIONS_FIELDS, LABELS_FIELDS).",
    },
    missing_id: {
      places: ["decode", "store-labels"],
      meaning: "An id is missing or empty; without a card id no history can be kept.",
      remedy: "Correct the producer, or map the field (TRANSACTIONS_FIELDS, LABELS_FIELDS).",
    },
    no_payload: {
      places: ["decode", "store-labels"],
      meaning: "The record's envelope holds no row, as change data capture writes for a deleted one.",
      remedy: "Have the connector leave deletions out.",
    },
    no_score: {
      places: ["score", "job"],
      meaning: "The model gave something else than a number from 0 to 1.",
      remedy: "Deploy another model, then replay.",
    },
    not_avro: {
      places: ["store-labels", "log"],
      meaning: "The value is neither in the Confluent wire format nor JSON (of a transaction: `unknown_format`).",
      remedy: "Correct the producer.",
    },
    protobuf_malformed: {
      places: ["decode", "store-labels"],
      meaning: "The Protocol Buffers value does not fit its schema.",
      remedy: "Have the producer write with the schema that it names.",
    },
    repeated: {
      status: 409,
      places: ["history"],
      meaning: "The card has had this transaction id within 24 hours of event time; the reason names the first.",
      remedy: "Nothing: the first was scored. Give each transaction an id of its own.",
    },
    schema_mismatch: {
      places: ["decode"],
      meaning: "The writer's schema lacks a field, or has it in another type.",
      remedy: "Change the schema, or map its fields (TRANSACTIONS_FIELDS), then replay.",
    },
    schema_unavailable: {
      places: ["decode", "store-labels", "log"],
      meaning: "The schema registry answers, but did not give this one schema.",
      remedy: "See why the registry fails on it, then replay.",
    },
    too_large: {
      places: ["decode", "read"],
      meaning: "The value is larger than transactions may be; the dead letter has its length and SHA-256.",
      remedy: "Send smaller records.",
    },
    unknown_format: {
      places: ["decode"],
      meaning: "The value is neither in the Confluent wire format nor JSON.",
      remedy: "Correct the producer.",
    },
    unknown_schema: {
      status: 404,
      places: ["decode", "store-labels", "log"],
      meaning: "No schema has this id.",
      remedy: "Register the schema, or correct SCHEMA_REGISTRY_URL, then replay.",
    },
    unsupported_schema: {
      places: ["decode", "store-labels"],
      meaning: "The writer's schema is of a kind, or has parts, that can't be read.",
      remedy: "Use Avro, JSON Schema or Protocol Buffers; the reason says what can't be read.",
    },
    wrong_attribute_type: {
      places: ["decode"],
      meaning: "An attribute has another type than the deployed models take.",
      remedy: "Correct the producer, or deploy a model that takes it.",
    },
  },
} as const satisfies ErrorGroup;
