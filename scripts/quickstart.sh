#!/usr/bin/env bash
# From a fresh clone to prepared, verified data and a first trained model; needs git, Python 3.11 and nothing else.
# Usage: bash scripts/quickstart.sh [OUT]      (default: data)
set -euo pipefail
out="${1:-data}"
# shellcheck source=scripts/_environment.sh
source "$(dirname "$0")/_environment.sh"
environment

python -m omni_ray.prepare all --dataset synthetic --out "$out"
omni-ray verify --out "$out"

echo
echo "Made:"
wc -lc "$out"/text/production_corpus.txt "$out"/audio/production_asr.csv "$out"/audio/production_tts.csv \
    "$out"/images/production_annotations.json

echo
echo "Schedules for these data (in a copy of configs/, which stays as it is):"
mkdir -p "$out/configs" checkpoints
cp configs/*.json "$out/configs/"
python scripts/update_configs_from_data.py --data-dir "$out" --configs-dir "$out/configs"

echo
python -m omni_ray.train --stage text --smoke --configs-dir "$out/configs" --data "$out"
omni-ray infer --ckpt checkpoints/thinker_tiny-smoke --text "The" --max-tokens 40
