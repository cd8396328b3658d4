"""Where the bytes of a source lie. This version reads local and shared folders."""

from omni_ray.prepare.sources.local import check_unchanged, check_urls, expand, local_path

__all__ = ["check_unchanged", "check_urls", "expand", "local_path"]
