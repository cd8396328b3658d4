#!/usr/bin/env bash
# Lint, types and tests.
# Usage: bash scripts/test.sh [fast|all] [pytest arguments]
# fast leaves out what takes more than some seconds; all adds what takes minutes alone, for a release.
set -euo pipefail
# shellcheck source=scripts/_environment.sh
source "$(dirname "$0")/_environment.sh"
environment dev

chosen=(-m "not long")
case "${1:-}" in
fast) chosen=(-m "not slow") && shift ;;
all) chosen=() && shift ;;
esac
unset PYTHONDONTWRITEBYTECODE # the tests start hundreds of processes that import the same
ruff check .
ruff format --check .
mypy
python -X faulthandler -m pytest -q --instafail "${chosen[@]}" "$@"
