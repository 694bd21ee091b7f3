#!/bin/sh
# Runs a command of Overtile; the database's password comes from a file, as container engines provide secrets.
set -eu

if [ -n "${OVERTILE_DATABASE_PASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$OVERTILE_DATABASE_PASSWORD_FILE") # PostgreSQL's library uses it if the URL has none
    export PGPASSWORD
fi
exec overtile "$@"
