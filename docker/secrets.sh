#!/bin/sh
# secrets.sh HOST: creates the files that compose.postgres.yaml reads, in docker/secrets; existing files stay.
set -eu

[ $# -eq 1 ] || { echo "give the host's name: docker/secrets.sh overtile.example" >&2; exit 2; }
folder=$(dirname "$0")/secrets
umask 077 # only the folder keeps other users out; the containers' users have to read the files
mkdir -p "$folder"
umask 022

[ -e "$folder/database_password" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/database_password"
[ -e "$folder/tls_certificate.pem" ] || openssl req -x509 -newkey rsa:3072 -nodes -days 30 -subj "/CN=$1" \
    -addext "subjectAltName=DNS:$1" -keyout "$folder/tls_key.pem" -out "$folder/tls_certificate.pem" 2>/dev/null
chmod 644 "$folder"/*
