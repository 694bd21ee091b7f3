#!/bin/sh
# Installs Debian's updates since the image was made, and the packages given; leaves no lists or caches behind.
set -eu

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get upgrade -qq --yes --no-install-recommends
apt-get install -qq --yes --no-install-recommends "$@"
apt-get clean
rm -rf /var/lib/apt/lists/*
