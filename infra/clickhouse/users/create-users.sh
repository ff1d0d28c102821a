#!/usr/bin/env bash
# Creates one ClickHouse user for each role, with the passwords in files, and grants each what it needs (grants.sql).
# For the folder /docker-entrypoint-initdb.d of the server's image, or by hand:
#   PASSWORDS=/run/secrets CLICKHOUSE_USER=… CLICKHOUSE_PASSWORD=… infra/clickhouse/users/create-users.sh
# PASSWORDS holds clickhouse-sink, clickhouse-scoring and so on. Not run where it was written.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
passwords=${PASSWORDS:-/run/secrets}
password=${CLICKHOUSE_PASSWORD:-$(cat "${CLICKHOUSE_PASSWORD_FILE:-/dev/null}")}
client=(clickhouse-client --user "${CLICKHOUSE_USER:-default}" --password "$password")

for role in sink scoring merchants training api; do
  # As the roles read it: without the line break at the end. Only the hash goes to the server.
  hash=$(printf %s "$(cat "$passwords/clickhouse-$role")" | sha256sum | cut -d ' ' -f 1)
  "${client[@]}" --query "CREATE USER IF NOT EXISTS $role IDENTIFIED WITH sha256_hash BY '$hash'"
done
"${client[@]}" --multiquery < "$here/grants.sql"
