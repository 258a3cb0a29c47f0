#!/usr/bin/env bash
# Kills trainings, conversions and dataset jobs at random moments, resumes or repeats them, and
# compares with undisturbed runs bit for bit. Takes the arguments of tools/kill_check.py:
#
#   tools/kill_check.sh                       # 1,000 kills
#   tools/kill_check.sh --kills 20 --seed 7
#
# The environment variables of tools/install.sh hold.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${CAFFECOMPAT_VENV:-.venv}/bin
[ -x "$bin/python" ] || tools/install.sh all
OMP_NUM_THREADS=1 exec "$bin/python" tools/kill_check.py "$@"
