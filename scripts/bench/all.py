"""Every benchmark of preparation in turn, and one table of ratios to what each should reach.

    python scripts/bench/all.py --text ../shared/data/text/gsm8k-train.jsonl --datatrove /path/to/python
    python scripts/bench/all.py --text FILE --small          # a look at everything in some minutes

What a benchmark prints goes to stderr as it comes. Benchmarks of S3 and of training stand beside this file and have
options of their own.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commands(text: str, datatrove: str | None, small: bool) -> Iterator[list[str]]:
    """Script and arguments of each benchmark."""
    yield ["count.py", "--mb", "64" if small else "512"]
    trove = ["--datatrove", datatrove] if datatrove else []
    yield ["prepare_text.py", "--text", text, "--gb", "0.1" if small else "1", "--runs", "1" if small else "5", *trove]
    yield ["combine.py", "--gb", "0.1" if small else "1", "--runs", "2" if small else "5"]
    yield ["selection.py", "--samples", "1000000" if small else "100000000"]
    yield [
        "scale.py", "--plan-blocks", "100000" if small else "10000000", "--blocks",
        "1000" if small else "1000,10000,100000", "--restart-blocks", "1000" if small else "100000",
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, help="JSON lines with the columns question and answer")
    parser.add_argument("--datatrove", help="the Python of an environment with datatrove; left out where not given")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    rows = []
    failed = 0
    for script, *options in commands(arguments.text, arguments.datatrove, arguments.small):
        print(f"{script} {' '.join(options)}", file=sys.stderr, flush=True)
        with subprocess.Popen([sys.executable, str(HERE / script), *options], stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            for line in run.stdout:
                print(line, end="", file=sys.stderr, flush=True)
                if line.startswith("ratio: "):
                    rows.append(line.removeprefix("ratio: ").strip())
        failed += run.returncode != 0
    print("| what | ratio | should be | |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row} |")
    return 1 if failed or any(row.endswith("MISSED") for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
