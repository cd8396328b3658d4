"""Synthetic data: raw sources for `--dataset synthetic`, and the ready data sets of `make_synthetic_datasets.py`."""

from omni_ray.prepare.synthetic.raw import synthetic_catalog, write_raw_text

__all__ = ["synthetic_catalog", "write_raw_text"]
