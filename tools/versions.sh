#!/usr/bin/env bash
# The test suite on other Pythons, and on the oldest and the newest versions of the libraries.
#
#   tools/versions.sh                          # every combination below whose Python is installed
#   tools/versions.sh 3.12:newest 3.10:lowest  # some of them
#   tools/versions.sh 3.12:torch==2.11.0,numpy==2.5.5
#
# lowest  what pyproject.toml names as the oldest version of each library that is always needed
# pinned  the versions of constraints.txt
# newest  whatever the package index offers
# name==version[,name==version]  these, and the newest of the rest
#
# Each combination gets a fresh environment of some gigabytes, which is removed afterwards; with
# KEEP=1 it stays, so that tests that failed can be run again in it. The suite's arguments can be
# given in PYTEST_ARGUMENTS, the folder of the environments in TMPDIR.
set -uo pipefail
cd "$(dirname "$0")/.."

combinations=("$@")
if [ ${#combinations[@]} -eq 0 ]; then
    combinations=(3.10:lowest 3.10:newest 3.11:pinned 3.12:newest 3.13:newest)
fi

constraints_of() { # SET FILE
    case $1 in
    pinned) cp constraints.txt "$2" ;;
    newest) : >"$2" ;;
    *==*) tr , '\n' <<<"$1" >"$2" ;;
    # name>=version of the [project] dependencies becomes name==version.
    lowest) sed -n '/^dependencies = \[/,/^\]/s/^ *"\([a-z0-9]*\)>=\([0-9.]*\)",$/\1==\2/p' \
        pyproject.toml >"$2" ;;
    *) echo "unknown set of versions '$1': lowest, pinned, newest or name==version" >&2 && return 1 ;;
    esac
}

run_tests() { # PYTHON SET FOLDER
    "python$1" -m venv "$3/venv" &&
        constraints_of "$2" "$3/constraints.txt" &&
        "$3/venv/bin/python" -m pip install -q --disable-pip-version-check \
            --constraint "$3/constraints.txt" --editable '.[test,all]' &&
        "$3/venv/bin/python" -m pip list --disable-pip-version-check |
        awk '/^(torch|numpy|protobuf|lmdb|h5py|opencv-python-headless) /' &&
        "$3/venv/bin/python" -m pytest -q ${PYTEST_ARGUMENTS:-}
}

failed=0
for combination in "${combinations[@]}"; do
    python=${combination%%:*} versions=${combination##*:}
    if ! command -v "python$python" >/dev/null; then
        echo "== Python $python, $versions: skipped, there is no python$python"
        continue
    fi
    echo "== Python $python, $versions"
    folder=$(mktemp -d)
    if run_tests "$python" "$versions" "$folder"; then
        echo "== Python $python, $versions: passed"
    else
        echo "== Python $python, $versions: FAILED"
        failed=1
    fi
    if [ -n "${KEEP:-}" ]; then
        echo "== Python $python, $versions: $folder/venv/bin/python has its libraries"
    else
        rm -rf "$folder"
    fi
done
exit $failed
