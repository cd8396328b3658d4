"""How the bytes of a source become records: cuts, the index pass, reading a cut, and what is checked beforehand.

Tables (Parquet, JSON lines, JSON arrays, CSV), lines and documents; plain, gzipped, and inside tar, tar.gz and zip.
"""

from omni_ray.prepare.readers.check import check_fields
from omni_ray.prepare.readers.index import index_file
from omni_ray.prepare.readers.layout import known_reader
from omni_ray.prepare.readers.plan import plan_cuts
from omni_ray.prepare.readers.read import read_cut

# Raised with any change that finds other records of sounds or pictures in the same files, or cuts them otherwise.
VERSION = 2

__all__ = ["VERSION", "check_fields", "index_file", "known_reader", "plan_cuts", "read_cut"]
