#!/bin/sh
# secrets.sh HOST: the files that compose.postgres.yaml reads, in docker/secrets; what is there already stays.
set -eu

[ $# -eq 1 ] || { echo "say for which host: docker/secrets.sh overtile.example" >&2; exit 2; }
folder=$(dirname "$0")/secrets
umask 077 # the folder keeps other users out; in it the containers' users read
mkdir -p "$folder"
umask 022

[ -e "$folder/database_password" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/database_password"
[ -e "$folder/tls_certificate.pem" ] || openssl req -x509 -newkey rsa:3072 -nodes -days 30 -subj "/CN=$1" \
    -addext "subjectAltName=DNS:$1" -keyout "$folder/tls_key.pem" -out "$folder/tls_certificate.pem" 2>/dev/null
chmod 644 "$folder"/*
