-- The label of a transaction that counts is the one that was published last, and no longer the one with the highest
-- offset: offsets of two partitions, of a recreated topic, or of another cluster say nothing about order
-- (infra/decisions/0014-order.md).
--
-- `version` is the time of publication in milliseconds times 2^20, and within a millisecond the place in the partition.
-- Rows that were stored before this migration don't have that time: among them the one that was inserted last counts,
-- and any later label takes precedence over them. Rows that an older version of the sink writes afterwards have the
-- time of their insertion.
--
-- The version of a table's rows can't be changed, so the table is copied. All of it may be run again from the top
-- wherever it ended: what was copied twice is stored once, and nothing is dropped before it is in the other table.

CREATE TABLE IF NOT EXISTS labels (
  topic LowCardinality(String),
  partition UInt32,
  offset UInt64 CODEC(Delta, LZ4),
  transaction_id String,
  card_id String,
  is_fraud Bool,
  label_time DateTime64(3, 'UTC') CODEC(Delta, LZ4),
  version UInt64 DEFAULT bitShiftLeft(toUInt64(toUnixTimestamp64Milli(inserted_at)), 20) + bitAnd(offset, 1048575),
  inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(inserted_at)
ORDER BY (card_id, transaction_id)
SETTINGS non_replicated_deduplication_window = 1000;

ALTER TABLE labels ADD COLUMN IF NOT EXISTS version UInt64
DEFAULT bitShiftLeft(toUInt64(toUnixTimestamp64Milli(inserted_at)), 18) + bitAnd(offset, 262143) AFTER label_time;

CREATE TABLE IF NOT EXISTS labels_before_0005 AS labels;

-- No window of deduplication while it is filled: blocks that are copied again must not be passed over.
CREATE TABLE IF NOT EXISTS labels_of_0005 (
  topic LowCardinality(String),
  partition UInt32,
  offset UInt64 CODEC(Delta, LZ4),
  transaction_id String,
  card_id String,
  is_fraud Bool,
  label_time DateTime64(3, 'UTC') CODEC(Delta, LZ4),
  version UInt64 DEFAULT bitShiftLeft(toUInt64(toUnixTimestamp64Milli(inserted_at)), 20) + bitAnd(offset, 1048575),
  inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(inserted_at)
ORDER BY (card_id, transaction_id);

INSERT INTO labels_of_0005
  (topic, partition, offset, transaction_id, card_id, is_fraud, label_time, version, inserted_at)
SETTINGS max_partitions_per_insert_block = 0
SELECT topic, partition, offset, transaction_id, card_id, is_fraud, label_time, version, inserted_at FROM labels;

INSERT INTO labels_of_0005
  (topic, partition, offset, transaction_id, card_id, is_fraud, label_time, version, inserted_at)
SETTINGS max_partitions_per_insert_block = 0
SELECT topic, partition, offset, transaction_id, card_id, is_fraud, label_time, version, inserted_at
FROM labels_before_0005;

DROP TABLE labels_before_0005 SYNC;

RENAME TABLE labels TO labels_before_0005, labels_of_0005 TO labels;

ALTER TABLE labels MODIFY SETTING non_replicated_deduplication_window = 1000;

-- What an older version of the sink has stored while the table was copied.
INSERT INTO labels (topic, partition, offset, transaction_id, card_id, is_fraud, label_time, version, inserted_at)
SETTINGS max_partitions_per_insert_block = 0, insert_deduplicate = 0
SELECT topic, partition, offset, transaction_id, card_id, is_fraud, label_time, version, inserted_at
FROM labels_before_0005;

DROP TABLE labels_before_0005 SYNC;

-- Made of the labels (0004), and made again by the sink's next placement; until then metrics read `labels` alone.

DROP TABLE IF EXISTS label_placements SYNC;
DROP TABLE IF EXISTS labels_by_event SYNC;
DROP TABLE IF EXISTS labels_without_event SYNC;

CREATE TABLE IF NOT EXISTS labels_by_event (
  event_time DateTime64(3, 'UTC') CODEC(Delta, LZ4),
  card_id String,
  transaction_id String,
  is_fraud Bool,
  version UInt64 COMMENT 'of the label' CODEC(Delta, LZ4),
  inserted_at DateTime64(3, 'UTC') COMMENT 'of the label' CODEC(Delta, LZ4)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(event_time)
ORDER BY (event_time, card_id, transaction_id);

CREATE TABLE IF NOT EXISTS labels_without_event (
  placement UUID,
  card_id String,
  transaction_id String,
  is_fraud Bool,
  version UInt64 COMMENT 'of the label',
  inserted_at DateTime64(3, 'UTC') COMMENT 'of the label',
  written_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = MergeTree
PARTITION BY placement
ORDER BY (card_id, transaction_id)
TTL toDateTime(written_at) + toIntervalDay(10);

CREATE TABLE IF NOT EXISTS label_placements (
  placement UUID,
  cut DateTime64(3, 'UTC') COMMENT 'labels inserted before it are placed',
  labels UInt64 COMMENT 'how many were looked at',
  finished_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = MergeTree
ORDER BY (cut, placement)
TTL toDateTime(finished_at) + toIntervalDay(10);

-- Whose rows these are: of one Kafka cluster and one TOPIC_PREFIX. One row counts, the newest.

CREATE TABLE IF NOT EXISTS database_owner (
  cluster_id String COMMENT 'of the Kafka cluster',
  topic_prefix String,
  recorded_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = MergeTree
ORDER BY recorded_at;
