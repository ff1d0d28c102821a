-- The tables that the sink fills. Every statement may run again.
--
-- A row's key is the coordinates (topic, partition, offset) of the record that it was made from; ReplacingMergeTree
-- drops repeats when it merges, FINAL when it reads. Sorting keys begin with the time, which is part of the record and
-- so a function of the coordinates: infra/decisions/0003-clickhouse-keys.md says why.
-- The deduplication window makes the server forget blocks that the sink repeats after a lost answer.
-- Times are UTC whatever the server's zone. TTLs are set from the settings when the sink starts (retention.ts).

CREATE TABLE IF NOT EXISTS transactions (
  topic LowCardinality(String),
  partition UInt32,
  offset UInt64 CODEC(Delta, LZ4),
  transaction_id String,
  event_time DateTime64(3, 'UTC') CODEC(Delta, LZ4),
  card_id String,
  merchant_id String,
  amount Float64,
  currency LowCardinality(String),
  numbers Map(LowCardinality(String), Float64) COMMENT 'attributes that are numbers',
  texts Map(LowCardinality(String), String) COMMENT 'attributes that are strings',
  flags Map(LowCardinality(String), Bool) COMMENT 'attributes that are booleans',
  inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
  INDEX by_transaction transaction_id TYPE bloom_filter(0.01) GRANULARITY 4,
  INDEX by_card card_id TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (event_time, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS predictions (
  topic LowCardinality(String),
  partition UInt32,
  offset UInt64 CODEC(Delta, LZ4),
  transaction_id String,
  card_id String,
  merchant_id String,
  amount Float64,
  currency LowCardinality(String),
  event_time DateTime64(3, 'UTC') CODEC(Delta, LZ4),
  scored_at DateTime64(3, 'UTC') CODEC(Delta, LZ4),
  scoring_ms Float32,
  score Float32,
  decision LowCardinality(String) COMMENT 'approve, review or decline',
  model LowCardinality(String) COMMENT 'name@version',
  epoch Int64,
  features Array(Float32) COMMENT 'in the order of the manifest',
  stale Bool,
  reasons Array(Tuple(feature LowCardinality(String), contribution Float64))
    COMMENT 'empty where there are none to give',
  source_topic LowCardinality(String),
  source_partition UInt32,
  source_offset UInt64 CODEC(Delta, LZ4),
  inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
  INDEX by_transaction transaction_id TYPE bloom_filter(0.01) GRANULARITY 4,
  INDEX by_card card_id TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (event_time, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS shadow_predictions AS predictions;

-- One row a transaction in the end: the label with the highest offset. Relabelling can fall into another month, so
-- FINAL must look across partitions here (never set do_not_merge_across_partitions_select_final for this table).
CREATE TABLE IF NOT EXISTS labels (
  topic LowCardinality(String),
  partition UInt32,
  offset UInt64 CODEC(Delta, LZ4),
  transaction_id String,
  card_id String,
  is_fraud Bool,
  label_time DateTime64(3, 'UTC') CODEC(Delta, LZ4),
  inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4)
) ENGINE = ReplacingMergeTree(offset)
PARTITION BY toYYYYMM(inserted_at)
ORDER BY (card_id, transaction_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS dead_letters (
  topic LowCardinality(String),
  partition UInt32,
  offset UInt64 CODEC(Delta, LZ4),
  at DateTime64(3, 'UTC') COMMENT 'when it was dead-lettered: the timestamp of the record',
  key Nullable(String) COMMENT 'the untouched bytes',
  value Nullable(String) COMMENT 'the untouched bytes' CODEC(ZSTD(1)),
  code LowCardinality(String),
  reason String,
  step LowCardinality(String),
  source_topic LowCardinality(String),
  source_partition Nullable(UInt32),
  source_offset Nullable(UInt64),
  attempt Nullable(UInt32),
  reply_to String,
  headers Map(String, String) COMMENT 'all of them; of a name that stands more than once, the last',
  inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4)
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (at, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS control_events (
  topic LowCardinality(String),
  partition UInt32,
  offset UInt64 CODEC(Delta, LZ4),
  key String,
  base Int64,
  at DateTime64(3, 'UTC'),
  who String,
  kind LowCardinality(String) COMMENT 'Deployed, ModelRegistered, ...',
  payload String COMMENT 'JSON',
  inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4)
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (at, topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 1000;
