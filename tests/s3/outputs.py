"""What whole runs leave in a bucket, and how far a run has come."""

from hashlib import sha256

from omni_ray.ledger import read_ledger
from omni_ray.storage.s3 import S3Storage
from tests.s3.proxy import Proxy


def products(uri: str) -> dict[str, str]:
    """sha256 of everything that a user is promised: every object outside the working folder."""
    storage = S3Storage(uri)
    keys = [stat.key for stat in storage.list("") if not stat.key.startswith(".omni_ray/")]
    return {key: sha256(storage.read(key)).hexdigest() for key in keys}


def receipts(uri: str) -> dict[str, list[str]]:
    """For every source: the committed segments in the order of its ledger."""
    storage = S3Storage(uri)
    folders = {stat.key.partition("/ledger/")[0] for stat in storage.list(".omni_ray") if "/ledger/" in stat.key}
    return {
        folder: [f"{one.block}.{one.segment} {one.outputs}" for segments in state.receipts.values() for one in segments]
        for folder in sorted(folders)
        for state in [read_ledger(storage, f"{folder}/ledger")]
    }


def blocks_put(proxy: Proxy) -> int:
    """Objects put among the blocks since the proxy was last told to forget."""
    with proxy.lock:
        return sum(kind == "PUT" and "/blocks/" in path for kind, path in proxy.requests)
