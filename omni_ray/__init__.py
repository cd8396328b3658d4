"""omni_ray: from nothing to a trained omni model, on a laptop or a Ray cluster, with the same commands."""

__version__ = "0.1.0"
