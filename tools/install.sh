#!/usr/bin/env bash
# Make the virtual environment of this checkout and install caffecompat in it, with extras.
#
#   tools/install.sh test,all
#
# CAFFECOMPAT_VENV   the environment's folder; made where it is missing (default: .venv)
# PYTHON             the Python that it is made with (default: python3)
# pip's own variables hold as well, e.g. PIP_EXTRA_INDEX_URL to choose another build of torch.
set -euo pipefail
cd "$(dirname "$0")/.."

extras=${1:-all}
venv=${CAFFECOMPAT_VENV:-.venv}
python=$venv/bin/python
stamp=$venv/caffecompat-$extras.stamp

# Never silent for long: pip's own bars on a terminal, else a line per package, and one every ten
# seconds while a large one is fetched or unpacked.
pip_install() {
    local options=(--disable-pip-version-check)
    if [ -t 1 ]; then
        "$python" -m pip install "${options[@]}" "$@"
        return
    fi
    local started=$SECONDS code=0 watcher
    (while sleep "${CAFFECOMPAT_HEARTBEAT:-10}" >/dev/null 2>&1; do
        echo "  ... $((SECONDS - started)) s"
    done) &
    watcher=$!
    "$python" -m pip install "${options[@]}" --progress-bar off "$@" | package_lines || code=$?
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    return "$code"
}

# Of what pip says, what it is busy with.
package_lines() {
    local line
    while IFS= read -r line; do
        case $line in
            Collecting* | *Downloading* | Installing* | Building*) echo "  ${line#"${line%%[! ]*}"}" ;;
        esac
    done
}

make_environment() {
    local base=${PYTHON:-python3}
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "caffecompat needs Python 3.10 or later, $base is $("$base" --version 2>&1)" >&2
        exit 1
    }
    echo "Making the virtual environment $venv"
    # Debian splits ensurepip off; the pip that is there can then serve the new environment.
    "$base" -m venv "$venv" >/dev/null 2>&1 ||
        { "$base" -m venv --clear --without-pip "$venv" &&
            "$base" -m pip -qq --python "$python" install pip; } || {
        echo "cannot make a virtual environment: on Debian, apt-get install python3-venv" >&2
        exit 1
    }
}

install() {
    pip_install --constraint constraints.txt --editable ".[$extras]"
}

"$python" -m pip --version >/dev/null 2>&1 || make_environment
# The stamp holds the checkout, since an environment can serve only one at a time.
if [ "$stamp" -nt pyproject.toml ] &&
    [ "$stamp" -nt constraints.txt ] && [ "$(cat "$stamp")" = "$PWD" ]; then
    exit 0
fi

echo "Installing caffecompat[$extras] in $venv (PyTorch is large: this can take minutes)"
install
for old in "$venv"/caffecompat-*.stamp; do
    # What another checkout installed is its own no longer.
    if [ -f "$old" ] && [ "$(cat "$old")" != "$PWD" ]; then rm "$old"; fi
done
pwd >"$stamp"
