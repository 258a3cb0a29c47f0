#!/usr/bin/env bash
# Everything that must hold before a commit: lint, format, types, tests.
#
#   tools/test.sh                 # all of it
#   tools/test.sh -m parity -x    # arguments go to pytest
#   tools/test.sh --recorded PATH # with all cases recorded from BVLC Caffe, not the copies alone
#
# CAFFECOMPAT_TEST_PROCESSES   how many processes share the tests (default: one per core, up to 8)
#
# The environment variables of tools/install.sh hold as well.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install.sh test,all
bin=${CAFFECOMPAT_VENV:-.venv}/bin

stage() {
    printf '\n== %s\n' "$*"
}

stage "1 of 4: ruff check"
"$bin/ruff" check .
stage "2 of 4: ruff format"
"$bin/ruff" format --check .
stage "3 of 4: mypy (takes about a minute the first time)"
"$bin/mypy"
stage "4 of 4: pytest (takes minutes; each dot is a test)"
# Without compiled files each process compiles all tests and the package anew, which takes minutes.
unset PYTHONDONTWRITEBYTECODE
processes=${CAFFECOMPAT_TEST_PROCESSES:-$(nproc 2>/dev/null || echo 2)}
"$bin/python" -m pytest -n "$((processes < 8 ? processes : 8))" --dist worksteal "$@"
