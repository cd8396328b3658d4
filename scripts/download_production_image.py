"""Prepare pictures with the original's options: combining is asked for with --combine."""

import argparse

from omni_ray.entry import end, guarded
from omni_ray.prepare.command import prepare
from omni_ray.prepare.options import add_arguments, to_options


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument(
        "--combine", action="store_true", help="write images/production_annotations.json from all datasets"
    )
    arguments = parser.parse_args()
    command = f"download_production_image.py --out {arguments.out}"
    return guarded(lambda: prepare(to_options(arguments, "image", combine=arguments.combine, command=command)))


if __name__ == "__main__":
    end(main())
