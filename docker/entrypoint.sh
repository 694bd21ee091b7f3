#!/bin/sh
# Starts a command of Overtile with the database's password out of a file, as container engines hand secrets over.
set -eu

if [ -n "${OVERTILE_DATABASE_PASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$OVERTILE_DATABASE_PASSWORD_FILE") # PostgreSQL's library takes it where the URL has none
    export PGPASSWORD
fi
exec overtile "$@"
