#!/bin/sh
# Debian's packages: what was mended since the image was made, and the ones that are named; no lists or caches stay behind.
set -eu

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get upgrade -qq --yes --no-install-recommends
apt-get install -qq --yes --no-install-recommends "$@"
apt-get clean
rm -rf /var/lib/apt/lists/*
