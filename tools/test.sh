#!/usr/bin/env bash
# Everything that must hold before a commit: lint, format, types, tests.
#
#   tools/test.sh                 # all of it
#   tools/test.sh -m parity -x    # arguments go to pytest
#
# The environment variables of tools/install.sh hold.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install.sh test,all
bin=${CAFFECOMPAT_VENV:-.venv}/bin

echo "ruff check" && "$bin/ruff" check .
echo "ruff format" && "$bin/ruff" format --check .
echo "mypy" && "$bin/mypy"
echo "pytest" && "$bin/python" -m pytest "$@"
