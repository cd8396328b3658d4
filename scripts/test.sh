#!/usr/bin/env bash
# Lint, types and tests.
# Usage: bash scripts/test.sh [fast] [pytest arguments]      (fast: leaves out what takes long)
set -euo pipefail
# shellcheck source=scripts/_environment.sh
source "$(dirname "$0")/_environment.sh"
environment dev

chosen=()
if [ "${1:-}" = fast ]; then
    shift
    chosen=(-m "not slow")
fi
ruff check .
ruff format --check .
mypy
python -m pytest -q "${chosen[@]}" "$@"
