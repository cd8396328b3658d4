"""Make small data sets of all three modalities, to try everything out with: text, pictures, speech.

python scripts/make_synthetic_datasets.py [--out data] [--seed 0] [--only text|audio|image]...
"""

import argparse
import sys
import time

from omni_ray.catalog import MODALITIES
from omni_ray.entry import end
from omni_ray.errors import OmniRayError
from omni_ray.prepare.synthetic.datasets import MAKERS
from omni_ray.storage import open_storage


def main() -> int:
    parser = argparse.ArgumentParser(description="Make small synthetic data sets; the same seed gives the same bytes.")
    parser.add_argument("--out", default="data", help="folder to write to (default: data)")
    parser.add_argument("--seed", type=_seed, default=0, help="whole number from 0 (default: 0)")
    parser.add_argument("--only", action="append", choices=MODALITIES, help="one modality; may be given repeatedly")
    arguments = parser.parse_args()
    try:
        storage = open_storage(arguments.out)
        for modality in arguments.only or MODALITIES:
            start = time.monotonic()
            made = MAKERS[modality](storage, arguments.seed)
            files = ", ".join(f"{arguments.out.rstrip('/')}/{key}" for key in made.files)
            size = f"{made.samples:,} samples, {made.bytes / 1e6:.1f} MB"
            print(f"{modality:<6} {files}: {size} in {time.monotonic() - start:.1f} s", flush=True)
    except OmniRayError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command makes everything again", file=sys.stderr)
        return 130
    return 0


def _seed(value: str) -> int:
    seed = int(value)
    if seed < 0:
        raise argparse.ArgumentTypeError(f"{seed} is negative")
    return seed


if __name__ == "__main__":
    end(main())
