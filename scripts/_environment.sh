# Sourced by the scripts here: one virtual environment in .venv, reused while nothing that it was made from changed.
# Usage: environment [EXTRA]

environment() {
    local extra="${1:-}" python="${PYTHON:-python3.11}" stamp wanted
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    command -v "$python" >/dev/null || python=python3
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "omni_ray needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2
        return 1
    }
    stamp=".venv/omni_ray${extra:+-$extra}.stamp"
    wanted="$(cat pyproject.toml constraints.txt | cksum) $PWD"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "Setting up .venv (the first time this takes some minutes, and 6 GB for torch) ..." >&2
        [ -x .venv/bin/python ] || "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check \
            --constraint constraints.txt --editable ".${extra:+[$extra]}"
        echo "$wanted" >"$stamp"
    fi
    export PATH="$PWD/.venv/bin:$PATH"
}
