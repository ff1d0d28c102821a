-- What each role may do in ClickHouse, and no more; the database is `fraud` (CLICKHOUSE_DATABASE). Run after
-- create-users.sh, by a user with access management. Not run where it was written: the local ClickHouse (chdb) has no
-- users. Tests check its grammar, and that its tables are those of the migrations.
-- system.tables and system.parts, which the sink reads, are open to all users and show each what it has grants for.

-- Makes the tables, changes and fills them, and sets how long they keep their rows.
GRANT CREATE DATABASE, CREATE TABLE, DROP TABLE, ALTER TABLE, SELECT, INSERT ON fraud.* TO sink;

-- Card histories and unsealed buckets are folded again from what Kafka has deleted.
GRANT SELECT ON fraud.transactions TO scoring, merchants;
GRANT SELECT ON fraud.predictions TO scoring, merchants;
GRANT SELECT ON fraud.dead_letters TO scoring, merchants;

-- Stored transactions with their labels, without dead letters.
GRANT SELECT ON fraud.transactions TO training;
GRANT SELECT ON fraud.labels TO training;
GRANT SELECT ON fraud.dead_letters TO training;

-- Answers queries; writes its request log and nothing else.
GRANT SELECT ON fraud.* TO api;
GRANT INSERT ON fraud.requests TO api;
GRANT INSERT ON fraud.responses TO api;

-- Whose rows the database has: every role refuses another one's.
GRANT SELECT ON fraud.database_owner TO scoring, merchants, training;
