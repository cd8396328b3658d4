"""Synthetic data: raw sources for `--dataset synthetic`, and the ready data sets of `make_synthetic_datasets.py`."""

from omni_ray.catalog import Catalog, Modality
from omni_ray.prepare.synthetic.raw import BUILT_IN, text_keys, text_sources, write_raw_text
from omni_ray.storage import Storage

__all__ = ["BUILT_IN", "has_raw", "synthetic_catalog", "write_raw", "write_raw_text"]


def synthetic_catalog(folder: str, modality: Modality = "text", seed: int = 0) -> Catalog:
    """The sources of a modality over the raw files in `folder`, one for each category."""
    if modality == "text":
        return text_sources(folder, seed)
    from omni_ray.prepare.synthetic import raw_media  # text needs none of the libraries of sound and pictures

    sources = raw_media.media_sources(folder, seed).of(modality)
    return Catalog(sources=sources)


def has_raw(storage: Storage, modality: Modality, prefix: str, seed: int = 0) -> bool:
    """Whether all raw files of a modality are below the folder `prefix`."""
    from omni_ray.prepare.synthetic import raw_media

    keys = text_keys(prefix, seed) if modality == "text" else raw_media.media_keys(modality, prefix, seed)
    return all(map(storage.exists, keys))


def write_raw(storage: Storage, modality: Modality, prefix: str, seed: int = 0) -> None:
    """Write the raw files of a modality below the folder `prefix`; those that are there already are left untouched."""
    if modality == "text":
        write_raw_text(storage, prefix, seed)
        return
    from omni_ray.prepare.synthetic import raw_media

    raw_media.write_raw_media(storage, modality, prefix, seed)
