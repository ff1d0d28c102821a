-- Labels at the event time of their transaction, so that the metrics of a window read the labels of that window only.
-- `labels` stays the truth; what is here is made from it, at intervals (infra/decisions/0005-metrics.md).
--
-- A placement takes the labels that were inserted before its `cut`: each is then in `labels_by_event` at the event time
-- of every prediction of its transaction, or, while there is no prediction, in `labels_without_event` under the
-- placement. Its row in `label_placements` comes last and makes it count. Labels inserted from the cut on are read from
-- `labels`.

CREATE TABLE IF NOT EXISTS labels_by_event (
  event_time DateTime64(3, 'UTC') CODEC(Delta, LZ4),
  card_id String,
  transaction_id String,
  is_fraud Bool,
  offset UInt64 CODEC(Delta, LZ4),
  inserted_at DateTime64(3, 'UTC') COMMENT 'of the label' CODEC(Delta, LZ4)
) ENGINE = ReplacingMergeTree(offset)
PARTITION BY toYYYYMM(event_time)
ORDER BY (event_time, card_id, transaction_id);

CREATE TABLE IF NOT EXISTS labels_without_event (
  placement UUID,
  card_id String,
  transaction_id String,
  is_fraud Bool,
  offset UInt64,
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
