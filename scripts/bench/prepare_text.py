"""Text preparation against a plain two-process loop and against datatrove, on the same input with the same rules.

    python scripts/bench/prepare_text.py --text ../shared/data/text/gsm8k-train.jsonl --datatrove /path/to/python

The input are the lines of a real file, repeated with a running number so that nothing is a duplicate. Every round runs
each system on a quarter of the input and on all of it: "whole" is input over the wall time of the command on all of it,
"steady" is the difference of the inputs over the difference of the times, without what starting costs. The plain loop
calls the same transform record by record, hashes every line and writes corpus and index, but looks for no duplicates.
`--datatrove` names the Python of an environment with datatrove, pydantic, msgspec and numpy.
"""

import argparse
import hashlib
import json
import multiprocessing
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from omni_ray.catalog import Source, load_catalog
from omni_ray.prepare.records import TextSample
from omni_ray.prepare.transforms.text import TextTransform

KIND = "lines"
FILES = 8
TARGETS = {"plain": (0.0, 0.9), "datatrove": (2.0, 2.0)}  # whole, steady
CATALOG = """
[[source]]
name = "bench"
modality = "text"
category = "scientific"
url = [{urls}]
reader = "table"
license = "MIT"
[source.fields]
text = "{{question}} {{answer}}"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="JSON lines with the columns question and answer")
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--datatrove", help="left out where it is not given")
    parser.add_argument("--alone", action="store_true", help="only omni_ray, for its rate and memory at other sizes")
    parser.add_argument("--role", choices=("plain", "datatrove"), help=argparse.SUPPRESS)
    parser.add_argument("--catalog", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        (run_plain if arguments.role == "plain" else run_datatrove)(arguments.catalog, arguments.out)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments, Path(folder))
    return 0


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    from scripts.bench import _measure, _rounds  # need psutil, which the environment of datatrove may lack

    sizes = write_input(arguments.text, folder, int(arguments.gb * 1e9))
    others = ["plain"] + ["datatrove"] * bool(arguments.datatrove)
    systems = ["omni_ray"] + others * (not arguments.alone)
    out = folder / "out"

    def start(_kind: str, name: str, part: str) -> _measure.Run:
        catalog = folder / f"{part}.toml"
        if name == "omni_ray":
            return _measure.run(_measure.prepare("text", catalog, out))
        python = arguments.datatrove if name == "datatrove" else sys.executable
        role = ["--text", "-", "--role", name, "--catalog", str(catalog), "--out", str(out)]
        return _measure.run([python, __file__, *role])

    megabytes = {part: size / 1e6 for part, size in sizes.items()}
    timed = _rounds.measure(systems, {KIND: megabytes}, start, out, arguments.runs, folder / "log")
    rates = _rounds.rates_of(timed, KIND)
    print(f"{sizes['all'] / 1e9:.2f} GB of input, {arguments.runs} rounds: median [smallest, largest]")
    print("| system | whole, MB/s | steady, MB/s | omni_ray / it, whole | steady | peak MB of a process |")
    print("|---|---|---|---|---|---|")
    for name, own in rates.items():
        ratios = [_rounds.median_ratio(*pair) for pair in zip(rates["omni_ray"], own, strict=True)]
        shown = " | ".join([*map(_measure.spread, own), *(f"{one:.2f}" for one in ratios)])
        print(f"| {name} | {shown} | {_rounds.peak_of(timed, name) / 1e6:.0f} |")
        for what, ratio, target in zip(("whole", "steady"), ratios, TARGETS.get(name, ()), strict=False):
            if target:
                _measure.ratio(f"prepare text / {name}, {what}", ratio, target)


def write_input(text: Path, folder: Path, size: int) -> dict[str, int]:
    """Write the input files and a catalog for a quarter and for all of them; bytes of both."""
    records = [json.loads(line) for line in text.open(encoding="utf-8")]
    number = 0
    written = []
    for file in range(FILES):
        with (folder / f"part-{file}.jsonl").open("wb") as stream:
            while stream.tell() < size // FILES:
                record = records[number % len(records)]
                value = {"question": f"[{number}] {record['question']}", "answer": record["answer"]}
                stream.write(json.dumps(value).encode() + b"\n")
                number += 1
            written.append(stream.tell())
    parts = {"quarter": FILES // 4, "all": FILES}
    for part, files in parts.items():
        urls = ", ".join(f'"part-{file}.jsonl"' for file in range(files))
        (folder / f"{part}.toml").write_text(CATALOG.format(urls=urls))
    return {part: sum(written[:files]) for part, files in parts.items()}


def run_plain(catalog: Path, out: Path) -> None:
    """Two processes, every other file each; then one corpus and one index."""
    (source,) = load_catalog(catalog).sources
    out.mkdir()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.map(plain_file, [(source, catalog.parent / url, out / url) for url in source.url], chunksize=1)
    with (out / "corpus.txt").open("wb") as corpus:
        for url in source.url:
            with (out / url).open("rb") as part:
                shutil.copyfileobj(part, corpus, 8 << 20)
            (out / url).unlink()
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.concat_arrays([part[column] for part in parts]) for column in range(2)]
    pq.write_table(pa.table(columns, names=["bytes", "sha256"]), out / "corpus.index.parquet", compression="zstd")


def plain_file(work: tuple[Source, Path, Path]) -> tuple[object, object]:
    import pyarrow as pa

    source, path, target = work
    transform = TextTransform(source)
    sizes, digests = [], []
    with path.open("rb") as stream, target.open("wb") as output:
        for line in stream:
            result = transform(json.loads(line))
            if isinstance(result, TextSample):
                for text in result.lines:
                    data = text.encode()
                    output.write(data + b"\n")
                    sizes.append(len(data) + 1)
                    digests.append(hashlib.sha256(data).digest())
    return pa.array(sizes, pa.int64()), pa.array(digests, pa.binary(32))


def run_datatrove(catalog: Path, out: Path) -> None:
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    (source,) = load_catalog(catalog).sources
    transform = TextTransform(source)

    class Rules(BaseFilter):
        name = "rules"

        def filter(self, doc: Document) -> bool | tuple[bool, str]:
            result = transform({"question": doc.text, "answer": doc.metadata["answer"]})
            if not isinstance(result, TextSample):
                return False, str(result)
            doc.text = "\n".join(result.lines)
            doc.metadata.clear()
            return True

    (out / "paths").mkdir(parents=True)
    listed = out / "paths/files.txt"
    listed.write_text("\n".join(source.url) + "\n")
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(catalog.parent), text_key="question", paths_file=str(listed)),
            Rules(),
            JsonlWriter(str(out / "corpus"), output_filename="${rank}.jsonl", compression=None),
        ],
        tasks=len(source.url),
        workers=2,
        logging_dir=str(out / "logs"),
    ).run()


if __name__ == "__main__":
    raise SystemExit(main())
