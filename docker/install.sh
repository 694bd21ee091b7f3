#!/bin/sh
# Installs Overtile into a virtual environment, in two steps, so that a change of the code doesn't fetch packages again.
#
#   install.sh locked [INDEX]   installs the lock's packages, with verified hashes, and torch (from INDEX if it is given)
#   install.sh overtile         installs the checkout (run it in its root), and removes what only developers need
set -eu

ENVIRONMENT=${OVERTILE_ENVIRONMENT:-/opt/overtile}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

pip_install() {
    "$ENVIRONMENT/bin/python" -m pip install --quiet "$@"
}

locked() {
    python3 -m venv "$ENVIRONMENT"
    pip_install --no-deps --require-hashes --requirement requirements.lock
    pip_install ${1:+--index-url "$1"} torch==2.13.0
}

overtile() {
    pip_install --no-deps --no-build-isolation .
    "$ENVIRONMENT/bin/python" docker/prune.py overtile
}

"$@"
