from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from omni_ray.storage import s3_client
from omni_ray.storage.s3 import S3Storage
from tests.s3.proxy import Proxy, proxy_before
from tests.s3.server import moto_server

BUCKET = "bucket"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def shared_proxy(s3_server: str) -> Iterator[Proxy]:
    with proxy_before(s3_server) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: Proxy) -> Iterator[Proxy]:
    """An S3 with one empty bucket; this process's settings lead to it through the proxy."""
    with pytest.MonkeyPatch.context() as patch:
        lead_to(shared_proxy, patch)
        empty_bucket(BUCKET)
        shared_proxy.forget()
        yield shared_proxy


def lead_to(proxy: Proxy, patch: pytest.MonkeyPatch, secret: str = "testing") -> None:
    """Make this process and those that it starts use the S3 behind `proxy`."""
    for name, value in {
        "AWS_ENDPOINT_URL": proxy.endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_MAX_ATTEMPTS"):
        patch.delenv(name, raising=False)
    s3_client._client.cache_clear()


def empty_bucket(name: str) -> None:
    bucket = boto3.resource("s3").Bucket(name)
    if name in [found.name for found in boto3.resource("s3").buckets.all()]:
        bucket.objects.all().delete()
        for upload in bucket.multipart_uploads.all():
            upload.abort()
    else:
        bucket.create()


def upload_folder(folder: Path, prefix: str, bucket: str = BUCKET) -> None:
    client = boto3.client("s3")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")


@pytest.fixture
def storage(proxy: Proxy) -> S3Storage:
    return S3Storage(f"s3://{BUCKET}/some/out")
