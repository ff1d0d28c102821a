// Made by schemas/generate.mjs from schemas/avro/*.avsc.
// Do not edit: change the .avsc and run `npm run schemas`.
/* eslint-disable */
export interface ModelRegistered {
  /** name@version */
  model: string;
  /** Of manifest.json, which holds the sha256 of model.onnx. */
  manifest_sha256: string;
  /** The training job that made it. */
  job: null | string;
}

export interface DeployedModel {
  model: string;
  /** Scores from here on are reviewed. */
  review: number;
  /** Scores from here on are declined. */
  decline: number;
}

export interface Deployed {
  champion: null | DeployedModel;
  shadows: DeployedModel[];
}

export interface JobRequested {
  /** JSON */
  request: string;
}

export interface JobClaimed {
  attempt: number;
  worker: string;
}

export interface JobFinished {
  attempt: number;
  model: null | string;
  /** Of the error, when it failed. */
  code: null | string;
  reason: null | string;
  /** JSON */
  metrics: null | string;
}

export type JobCancelled = Record<string, never>;

export interface DeadLetterReplayed {
  topic: string;
  partition: number;
  offset: number;
}

/** One decision of an operator or a trainer; the fold of these is the state of the control plane. */
export interface ControlEvent {
  /** deployment, model:<id>, job:<id> or dead-letter:<coordinates>; also the record's key. */
  key: string;
  /** Offset of the last accepted event of this key that the author knew; -1 for none. Any other is refused. */
  base: number;
  at: number;
  /** A user id, or system:start, system:train. */
  who: string;
  event:
    | { "fraudstream.ModelRegistered": ModelRegistered }
    | { "fraudstream.Deployed": Deployed }
    | { "fraudstream.JobRequested": JobRequested }
    | { "fraudstream.JobClaimed": JobClaimed }
    | { "fraudstream.JobFinished": JobFinished }
    | { "fraudstream.JobCancelled": JobCancelled }
    | { "fraudstream.DeadLetterReplayed": DeadLetterReplayed };
}

/** What became known of a transaction. */
export interface Label {
  transaction_id: string;
  /** Also the record's key, so that a label meets its transaction's partition. */
  card_id: string;
  is_fraud: boolean;
  /** When it became known. */
  label_time: number;
}

export type BucketEntity = "merchant" | "card" | "watermark";

/**
 * What one source partition saw of a merchant (or of a card with frauds) in one sealed hour; or how far it is sealed.
 */
export interface MerchantBucket {
  entity: BucketEntity;
  /** merchant_id or card_id; empty for a watermark. */
  id: string;
  /** When the hour begins. A watermark: every bucket of this source partition that begins before has been published. */
  bucket: number;
  /** Of the transactions; also the partition that this stands in. */
  source_partition: number;
  /** Transactions; of a card its frauds only. */
  count: number;
  frauds: number;
}

export type Decision = "approve" | "review" | "decline";

export interface Reason {
  feature: string;
  /** To the raw score (log-odds). */
  contribution: number;
}

/** The score of one transaction by one model. */
export interface Prediction {
  transaction_id: string;
  /** Also the record's key. */
  card_id: string;
  merchant_id: string;
  amount: number;
  currency: string;
  event_time: number;
  scored_at: number;
  /** From the start of the transaction's batch in the worker to its score, milliseconds. */
  scoring_ms: number;
  /** Probability of fraud, 0 to 1. */
  score: number;
  decision: Decision;
  /** name@version */
  model: string;
  /** Offset in fraud.control of the deployment that was in force. */
  epoch: number;
  /** The model's input, in its manifest's order. */
  features: number[];
  /** Merchant features were older than they should have been. */
  stale: boolean;
  /** Of an alert: the features that raised the score most; null where there are none to give. */
  reasons: null | Reason[];
  source_topic: string;
  source_partition: number;
  source_offset: number;
}

/** One card payment, as its payment system published it. */
export interface Transaction {
  /** Unique for its card. */
  transaction_id: string;
  /** When the payment happened. */
  event_time: number;
  /** Also the record's key. */
  card_id: string;
  merchant_id: string;
  /** Major units; zero is fine, a negative one is a refund. */
  amount: number;
  /** ISO 4217, three capital letters. */
  currency: string;
  /** Whatever else a model may look at. */
  attributes: Record<string, number | string | boolean>;
}

export type UserRole = "service" | "analyst" | "operator" | "admin";

/** One user as of one change; the record's key is the id, and a record without a value removes the user. */
export interface User {
  id: string;
  /** As it was chosen; two names that differ only in case are one. */
  username: string;
  email: string;
  role: UserRole;
  enabled: boolean;
  /** argon2id, encoded; null: this user can't sign in with a password. */
  password_hash: null | string;
  /** Tokens of any other version are refused; a new password raises it. */
  token_version: number;
  created_at: number;
  /** A user id, or system:start. */
  created_by: string;
  changed_at: number;
  /** A user id, or system:start. */
  changed_by: string;
  /** Offset of the record that made this user, -1 in that record: of two users with one name, the lower claim wins. */
  claim: number;
  /** Offset of the user's last accepted record that the author knew; -1 in the first. Any other is refused. */
  base: number;
}

export interface OwnedPartition {
  partition: number;
  /**
   * Of the deployment that every later prediction of this partition carries, or a later one; an earlier one only if the
   * worker says then that it refuses what is between.
   */
  epoch: number;
}

export interface RefusedDeployment {
  epoch: number;
  /** The champion. */
  model: string;
  reason: string;
}

export interface JobProgress {
  id: string;
  attempt: number;
  phase: string;
  percent: number;
  rows: number;
}

/** What one process of one role says of itself. */
export interface WorkerHeartbeat {
  /** Also the record's key. */
  worker: string;
  role: string;
  at: number;
  partitions: OwnedPartition[];
  /** Models that could not be loaded, shadows that were dropped. */
  problems: string[];
  /**
   * Deployments later than the one in force here that this worker doesn't score with: their champion can't be loaded,
   * failed, hung or gave no scores.
   */
  refused: RefusedDeployment[];
  job: null | JobProgress;
  /** Of an API copy: the sign-ins that it has locked, and who is known to it (api/users/sign-in-locks.ts). */
  sign_in_locks: string[];
}

/** schemas/avro/control-event.avsc */
export const controlEventSchema = {
  "type": "record",
  "name": "ControlEvent",
  "namespace": "fraudstream",
  "doc": "One decision of an operator or a trainer; the fold of these is the state of the control plane.",
  "fields": [
    {
      "name": "key",
      "type": "string",
      "doc": "deployment, model:<id>, job:<id> or dead-letter:<coordinates>; also the record's key."
    },
    {
      "name": "base",
      "type": "long",
      "doc": "Offset of the last accepted event of this key that the author knew; -1 for none. Any other is refused."
    },
    {
      "name": "at",
      "type": {
        "type": "long",
        "logicalType": "timestamp-millis"
      }
    },
    {
      "name": "who",
      "type": "string",
      "doc": "A user id, or system:start, system:train."
    },
    {
      "name": "event",
      "type": [
        {
          "type": "record",
          "name": "ModelRegistered",
          "fields": [
            {
              "name": "model",
              "type": "string",
              "doc": "name@version"
            },
            {
              "name": "manifest_sha256",
              "type": "string",
              "doc": "Of manifest.json, which holds the sha256 of model.onnx."
            },
            {
              "name": "job",
              "type": [
                "null",
                "string"
              ],
              "default": null,
              "doc": "The training job that made it."
            }
          ]
        },
        {
          "type": "record",
          "name": "Deployed",
          "fields": [
            {
              "name": "champion",
              "type": [
                "null",
                {
                  "type": "record",
                  "name": "DeployedModel",
                  "fields": [
                    {
                      "name": "model",
                      "type": "string"
                    },
                    {
                      "name": "review",
                      "type": "double",
                      "doc": "Scores from here on are reviewed."
                    },
                    {
                      "name": "decline",
                      "type": "double",
                      "doc": "Scores from here on are declined."
                    }
                  ]
                }
              ]
            },
            {
              "name": "shadows",
              "type": {
                "type": "array",
                "items": "DeployedModel"
              }
            }
          ]
        },
        {
          "type": "record",
          "name": "JobRequested",
          "fields": [
            {
              "name": "request",
              "type": "string",
              "doc": "JSON"
            }
          ]
        },
        {
          "type": "record",
          "name": "JobClaimed",
          "fields": [
            {
              "name": "attempt",
              "type": "int"
            },
            {
              "name": "worker",
              "type": "string"
            }
          ]
        },
        {
          "type": "record",
          "name": "JobFinished",
          "fields": [
            {
              "name": "attempt",
              "type": "int"
            },
            {
              "name": "model",
              "type": [
                "null",
                "string"
              ],
              "default": null
            },
            {
              "name": "code",
              "type": [
                "null",
                "string"
              ],
              "default": null,
              "doc": "Of the error, when it failed."
            },
            {
              "name": "reason",
              "type": [
                "null",
                "string"
              ],
              "default": null
            },
            {
              "name": "metrics",
              "type": [
                "null",
                "string"
              ],
              "default": null,
              "doc": "JSON"
            }
          ]
        },
        {
          "type": "record",
          "name": "JobCancelled",
          "fields": []
        },
        {
          "type": "record",
          "name": "DeadLetterReplayed",
          "fields": [
            {
              "name": "topic",
              "type": "string"
            },
            {
              "name": "partition",
              "type": "int"
            },
            {
              "name": "offset",
              "type": "long"
            }
          ]
        }
      ]
    }
  ]
} as const;

/** schemas/avro/label.avsc */
export const labelSchema = {
  "type": "record",
  "name": "Label",
  "namespace": "fraudstream",
  "doc": "What became known of a transaction.",
  "fields": [
    {
      "name": "transaction_id",
      "type": "string"
    },
    {
      "name": "card_id",
      "type": "string",
      "doc": "Also the record's key, so that a label meets its transaction's partition."
    },
    {
      "name": "is_fraud",
      "type": "boolean"
    },
    {
      "name": "label_time",
      "type": {
        "type": "long",
        "logicalType": "timestamp-millis"
      },
      "doc": "When it became known."
    }
  ]
} as const;

/** schemas/avro/merchant-bucket.avsc */
export const merchantBucketSchema = {
  "type": "record",
  "name": "MerchantBucket",
  "namespace": "fraudstream",
  "doc": "What one source partition saw of a merchant (or of a card with frauds) in one sealed hour; or how far it is sealed.",
  "fields": [
    {
      "name": "entity",
      "type": {
        "type": "enum",
        "name": "BucketEntity",
        "symbols": [
          "merchant",
          "card",
          "watermark"
        ]
      }
    },
    {
      "name": "id",
      "type": "string",
      "doc": "merchant_id or card_id; empty for a watermark."
    },
    {
      "name": "bucket",
      "type": {
        "type": "long",
        "logicalType": "timestamp-millis"
      },
      "doc": "When the hour begins. A watermark: every bucket of this source partition that begins before has been published."
    },
    {
      "name": "source_partition",
      "type": "int",
      "doc": "Of the transactions; also the partition that this stands in."
    },
    {
      "name": "count",
      "type": "int",
      "doc": "Transactions; of a card its frauds only."
    },
    {
      "name": "frauds",
      "type": "int"
    }
  ]
} as const;

/** schemas/avro/prediction.avsc */
export const predictionSchema = {
  "type": "record",
  "name": "Prediction",
  "namespace": "fraudstream",
  "doc": "The score of one transaction by one model.",
  "fields": [
    {
      "name": "transaction_id",
      "type": "string"
    },
    {
      "name": "card_id",
      "type": "string",
      "doc": "Also the record's key."
    },
    {
      "name": "merchant_id",
      "type": "string"
    },
    {
      "name": "amount",
      "type": "double"
    },
    {
      "name": "currency",
      "type": "string"
    },
    {
      "name": "event_time",
      "type": {
        "type": "long",
        "logicalType": "timestamp-millis"
      }
    },
    {
      "name": "scored_at",
      "type": {
        "type": "long",
        "logicalType": "timestamp-millis"
      }
    },
    {
      "name": "scoring_ms",
      "type": "float",
      "doc": "From the start of the transaction's batch in the worker to its score, milliseconds."
    },
    {
      "name": "score",
      "type": "float",
      "doc": "Probability of fraud, 0 to 1."
    },
    {
      "name": "decision",
      "type": {
        "type": "enum",
        "name": "Decision",
        "symbols": [
          "approve",
          "review",
          "decline"
        ]
      }
    },
    {
      "name": "model",
      "type": "string",
      "doc": "name@version"
    },
    {
      "name": "epoch",
      "type": "long",
      "doc": "Offset in fraud.control of the deployment that was in force."
    },
    {
      "name": "features",
      "type": {
        "type": "array",
        "items": "float"
      },
      "doc": "The model's input, in its manifest's order."
    },
    {
      "name": "stale",
      "type": "boolean",
      "doc": "Merchant features were older than they should have been."
    },
    {
      "name": "reasons",
      "type": [
        "null",
        {
          "type": "array",
          "items": {
            "type": "record",
            "name": "Reason",
            "fields": [
              {
                "name": "feature",
                "type": "string"
              },
              {
                "name": "contribution",
                "type": "double",
                "doc": "To the raw score (log-odds)."
              }
            ]
          }
        }
      ],
      "default": null,
      "doc": "Of an alert: the features that raised the score most; null where there are none to give."
    },
    {
      "name": "source_topic",
      "type": "string"
    },
    {
      "name": "source_partition",
      "type": "int"
    },
    {
      "name": "source_offset",
      "type": "long"
    }
  ]
} as const;

/** schemas/avro/transaction.avsc */
export const transactionSchema = {
  "type": "record",
  "name": "Transaction",
  "namespace": "fraudstream",
  "doc": "One card payment, as its payment system published it.",
  "fields": [
    {
      "name": "transaction_id",
      "type": "string",
      "doc": "Unique for its card."
    },
    {
      "name": "event_time",
      "type": {
        "type": "long",
        "logicalType": "timestamp-millis"
      },
      "doc": "When the payment happened."
    },
    {
      "name": "card_id",
      "type": "string",
      "doc": "Also the record's key."
    },
    {
      "name": "merchant_id",
      "type": "string"
    },
    {
      "name": "amount",
      "type": "double",
      "doc": "Major units; zero is fine, a negative one is a refund."
    },
    {
      "name": "currency",
      "type": "string",
      "doc": "ISO 4217, three capital letters."
    },
    {
      "name": "attributes",
      "type": {
        "type": "map",
        "values": [
          "double",
          "string",
          "boolean"
        ]
      },
      "default": {},
      "doc": "Whatever else a model may look at."
    }
  ]
} as const;

/** schemas/avro/user.avsc */
export const userSchema = {
  "type": "record",
  "name": "User",
  "namespace": "fraudstream",
  "doc": "One user as of one change; the record's key is the id, and a record without a value removes the user.",
  "fields": [
    {
      "name": "id",
      "type": "string"
    },
    {
      "name": "username",
      "type": "string",
      "doc": "As it was chosen; two names that differ only in case are one."
    },
    {
      "name": "email",
      "type": "string"
    },
    {
      "name": "role",
      "type": {
        "type": "enum",
        "name": "UserRole",
        "symbols": [
          "service",
          "analyst",
          "operator",
          "admin"
        ]
      }
    },
    {
      "name": "enabled",
      "type": "boolean"
    },
    {
      "name": "password_hash",
      "type": [
        "null",
        "string"
      ],
      "default": null,
      "doc": "argon2id, encoded; null: this user can't sign in with a password."
    },
    {
      "name": "token_version",
      "type": "int",
      "doc": "Tokens of any other version are refused; a new password raises it."
    },
    {
      "name": "created_at",
      "type": {
        "type": "long",
        "logicalType": "timestamp-millis"
      }
    },
    {
      "name": "created_by",
      "type": "string",
      "doc": "A user id, or system:start."
    },
    {
      "name": "changed_at",
      "type": {
        "type": "long",
        "logicalType": "timestamp-millis"
      }
    },
    {
      "name": "changed_by",
      "type": "string",
      "doc": "A user id, or system:start."
    },
    {
      "name": "claim",
      "type": "long",
      "doc": "Offset of the record that made this user, -1 in that record: of two users with one name, the lower claim wins."
    },
    {
      "name": "base",
      "type": "long",
      "doc": "Offset of the user's last accepted record that the author knew; -1 in the first. Any other is refused."
    }
  ]
} as const;

/** schemas/avro/worker-heartbeat.avsc */
export const workerHeartbeatSchema = {
  "type": "record",
  "name": "WorkerHeartbeat",
  "namespace": "fraudstream",
  "doc": "What one process of one role says of itself.",
  "fields": [
    {
      "name": "worker",
      "type": "string",
      "doc": "Also the record's key."
    },
    {
      "name": "role",
      "type": "string"
    },
    {
      "name": "at",
      "type": {
        "type": "long",
        "logicalType": "timestamp-millis"
      }
    },
    {
      "name": "partitions",
      "type": {
        "type": "array",
        "items": {
          "type": "record",
          "name": "OwnedPartition",
          "fields": [
            {
              "name": "partition",
              "type": "int"
            },
            {
              "name": "epoch",
              "type": "long",
              "doc": "Of the deployment that every later prediction of this partition carries, or a later one; an earlier one only if the worker says then that it refuses what is between."
            }
          ]
        }
      }
    },
    {
      "name": "problems",
      "type": {
        "type": "array",
        "items": "string"
      },
      "doc": "Models that could not be loaded, shadows that were dropped."
    },
    {
      "name": "refused",
      "type": {
        "type": "array",
        "items": {
          "type": "record",
          "name": "RefusedDeployment",
          "fields": [
            {
              "name": "epoch",
              "type": "long"
            },
            {
              "name": "model",
              "type": "string",
              "doc": "The champion."
            },
            {
              "name": "reason",
              "type": "string"
            }
          ]
        }
      },
      "default": [],
      "doc": "Deployments later than the one in force here that this worker doesn't score with: their champion can't be loaded, failed, hung or gave no scores."
    },
    {
      "name": "job",
      "type": [
        "null",
        {
          "type": "record",
          "name": "JobProgress",
          "fields": [
            {
              "name": "id",
              "type": "string"
            },
            {
              "name": "attempt",
              "type": "int"
            },
            {
              "name": "phase",
              "type": "string"
            },
            {
              "name": "percent",
              "type": "float"
            },
            {
              "name": "rows",
              "type": "long"
            }
          ]
        }
      ],
      "default": null
    },
    {
      "name": "sign_in_locks",
      "type": {
        "type": "array",
        "items": "string"
      },
      "default": [],
      "doc": "Of an API copy: the sign-ins that it has locked, and who is known to it (api/users/sign-in-locks.ts)."
    }
  ]
} as const;
