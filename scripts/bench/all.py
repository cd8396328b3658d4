"""Every benchmark in turn, and one table of ratios to what each should reach.

    python scripts/bench/all.py --text ../shared/data/text/gsm8k-train.jsonl --datatrove PYTHON --aws AWS --corpus FILE
    python scripts/bench/all.py --text FILE --small          # a look at everything in some minutes

What a benchmark prints goes to stderr as it comes. What needs something that is not given is left out: --datatrove,
--aws, --img2dataset, --corpus (a prepared one: training), --audio and --images (the folders with real files).
`train_gpu.py` needs a GPU, `chaos.py` counts kills and `simulate.py` measures nothing, so these stand beside.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commands(asked: argparse.Namespace, folder: str) -> Iterator[list[str]]:
    """Script and arguments of each benchmark; what has to be kept while one runs goes below `folder`."""
    small = asked.small
    yield ["count.py", "--mb", "64" if small else "512"]
    trove = ["--datatrove", asked.datatrove] if asked.datatrove else []
    yield [
        "prepare_text.py",
        "--text",
        asked.text,
        "--gb",
        "0.1" if small else "1",
        "--runs",
        "1" if small else "5",
        *trove,
    ]
    yield ["combine.py", "--gb", "0.1" if small else "1", "--runs", "2" if small else "5"]
    yield ["selection.py", "--samples", "1000000" if small else "100000000"]
    yield [
        "scale.py", "--plan-blocks", "100000" if small else "10000000", "--blocks",
        "1000" if small else "1000,10000,100000", "--restart-blocks", "1000" if small else "100000",
    ]  # fmt: skip
    yield [
        "cluster.py", "--text", asked.text, "--gb", "0.1" if small else "0.6", "--blocks", "10" if small else "60",
        "--cost-blocks", "200" if small else "2000",
    ]  # fmt: skip
    if asked.audio:
        yield ["prepare_audio.py", "--audio", asked.audio, "--scale", "0.05" if small else "1"]
    if asked.images:
        rival = ["--img2dataset", asked.img2dataset] if asked.img2dataset else []
        size = ["--photos", "500", "--runs", "1"] if small else []
        yield ["prepare_image.py", "--images", asked.images, *size, *rival]
    yield ["media_memory.py", "--gb", "0.2" if small else "3"]
    yield ["labels.py", "--rows", "100000" if small else "10000000"]
    yield ["lists.py", "--entries", "100000" if small else "10000000"]
    yield ["small_files.py", "--folder", folder, *(["--files", "500"] if small else [])]
    if asked.aws:
        yield ["s3.py", "throughput", "--aws", asked.aws, "--mb", "64" if small else "512"]
    yield ["s3.py", "requests"]
    yield ["s3.py", "restart", "--receipts", "1000" if small else "100000"]
    if asked.corpus:
        yield ["train_cpu.py", "--corpus", asked.corpus, "--out", f"{folder}/cpu", "--pairs", "2" if small else "7"]
        steps = ["--set", "max_steps=20"] if small else []
        yield ["learn.py", "--corpus", asked.corpus, "--out", f"{folder}/learn", *steps]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, help="JSON lines with the columns question and answer")
    parser.add_argument("--datatrove", help="the Python of an environment with datatrove; left out where not given")
    parser.add_argument("--aws", help="the awscli to compare with; left out where not given")
    parser.add_argument("--corpus", help="a prepared corpus, for training; left out where not given")
    parser.add_argument("--audio", help="the folder that prepare_audio.py wants; left out where not given")
    parser.add_argument("--images", help="the folder that prepare_image.py wants; left out where not given")
    parser.add_argument("--img2dataset", help="the Python of an environment with img2dataset, needs nginx; as above")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    rows = []
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for script, *options in commands(arguments, folder):
            print(f"{script} {' '.join(options)}", file=sys.stderr, flush=True)
            argv = [sys.executable, str(HERE / script), *options]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as run:
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
