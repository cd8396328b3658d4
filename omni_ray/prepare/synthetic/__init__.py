"""Synthetic data: raw sources for `--dataset synthetic`, and the ready data sets of `make_synthetic_datasets.py`."""

from omni_ray.prepare.synthetic.raw import BUILT_IN, synthetic_catalog, write_raw_text

__all__ = ["BUILT_IN", "synthetic_catalog", "write_raw_text"]
