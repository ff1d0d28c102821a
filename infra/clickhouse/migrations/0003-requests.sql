-- Who asked what of the API, and what they were answered: written by the API itself, in batches, keyed by request id.
-- A batch that is repeated after a lost answer is stored once, as in 0001.

CREATE TABLE IF NOT EXISTS requests (
  request_id String,
  at DateTime64(3, 'UTC') CODEC(Delta, LZ4),
  user_id String,
  username String,
  role LowCardinality(String),
  method LowCardinality(String),
  route LowCardinality(String) COMMENT 'the pattern',
  url String COMMENT 'as it was asked for; secrets and card numbers masked, cut to a limit',
  address String,
  body String COMMENT 'JSON; secrets and card numbers masked, cut to a limit',
  inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
  INDEX by_request request_id TYPE bloom_filter(0.01) GRANULARITY 4,
  INDEX by_user user_id TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (at, request_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS responses (
  request_id String,
  at DateTime64(3, 'UTC') COMMENT 'of the request' CODEC(Delta, LZ4),
  user_id String,
  method LowCardinality(String),
  route LowCardinality(String) COMMENT 'the pattern',
  status Int32,
  code LowCardinality(String) COMMENT 'of the problem; empty where there was none',
  ms Float64 COMMENT 'from the request''s arrival to the end of its answer',
  body String COMMENT 'JSON; secrets and card numbers masked, cut to a limit',
  inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
  INDEX by_request request_id TYPE bloom_filter(0.01) GRANULARITY 4,
  INDEX by_user user_id TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (at, request_id)
SETTINGS non_replicated_deduplication_window = 1000;
