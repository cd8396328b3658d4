"""The benchmarks of training run; their figures are for docs/results.md."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "scripts/bench"


def test_the_gpu_benchmark_runs_as_a_toy(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, str(BENCH / "train_gpu.py"), "--tiny", "--steps", "2", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(out.read_text())["runs"]
    assert run["tokens_per_s"] > 0 and run["recompiles"] == 0
