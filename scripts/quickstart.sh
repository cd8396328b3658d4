#!/usr/bin/env bash
# From a fresh clone to prepared, verified training data; needs git, Python 3.11 and nothing else.
# Usage: bash scripts/quickstart.sh [OUT]      (default: data)
set -euo pipefail
out="${1:-data}"
# shellcheck source=scripts/_environment.sh
source "$(dirname "$0")/_environment.sh"
environment

python -m omni_ray.prepare text --dataset synthetic --out "$out"
omni-ray verify --out "$out"

echo
echo "Made:"
wc -lc "$out"/text/production_corpus.txt
ls -l "$out"/text/production_corpus.index.parquet
