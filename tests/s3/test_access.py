"""Who may read and write on S3: credentials, permissions and settings, and what is said where they do not do."""

from pathlib import Path

import pytest

from omni_ray.errors import StorageError, UsageError
from omni_ray.storage import open_storage, s3_client
from omni_ray.storage.s3 import S3Storage
from tests.s3.conftest import BUCKET
from tests.s3.proxy import Fault, Proxy


def test_a_key_without_permission_is_named_with_the_permission(storage: S3Storage, proxy: Proxy) -> None:
    storage.put("a", b"x")
    for method, use, needed in (
        ("GET", lambda: storage.read("a"), "s3:GetObject"),
        ("PUT", lambda: storage.put("a", b""), "s3:PutObject"),
        ("HEAD", lambda: storage.stat("a"), "s3:GetObject and s3:ListBucket"),
        ("DELETE", lambda: storage.delete("a"), "s3:DeleteObject"),
    ):
        proxy.fail(Fault(method, "/a", status=403, code="AccessDenied"))
        with pytest.raises(StorageError, match=rf"s3://bucket/some/out/a: no permission .* need {needed} here"):
            use()
    proxy.fail(Fault("GET", "list-type", status=403, code="AccessDenied"))
    with pytest.raises(StorageError, match="s3:ListBucket"):
        list(storage.list(""))


def test_a_bucket_that_does_not_exist_is_named(proxy: Proxy) -> None:
    storage = S3Storage("s3://nobody-has-it/out")
    for use in (
        lambda: storage.put("a", b""),
        lambda: list(storage.list("")),
        lambda: storage.writer("a").write(bytes(40 << 20)),
    ):
        with pytest.raises(StorageError, match=r"s3://nobody-has-it/out.*: the bucket does not exist; create it"):
            use()


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_rejected_credentials_are_said_to_be(storage: S3Storage, proxy: Proxy, code: str) -> None:
    proxy.fail(Fault("PUT", "/a", status=403, code=code))
    with pytest.raises(StorageError, match=rf"credentials in use were rejected \({code}\)"):
        storage.put("a", b"")


@pytest.mark.parametrize("uri", ["s3://key:secret@bucket/x", "s3://secret@bucket/x"])
def test_credentials_in_a_uri_are_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_storage(uri)
    assert "secret" not in str(refused.value)


@pytest.fixture
def nothing_set(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """AWS's two files, empty, and no setting in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    s3_client._client.cache_clear()
    return tmp_path


def test_a_profile_brings_credentials_region_and_endpoint(
    nothing_set: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nothing_set / "config").write_text(f"[profile team]\nregion = eu-west-1\nendpoint_url = {proxy.endpoint}\n")
    (nothing_set / "credentials").write_text("[team]\naws_access_key_id = k\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_PROFILE", "team")
    S3Storage(f"s3://{BUCKET}").put("a", b"x")
    assert proxy.count() == {"PUT": 1}


def test_without_credentials_it_is_said_where_they_are_looked_for(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match="no AWS credentials were found; set AWS_PROFILE"):
        S3Storage(f"s3://{BUCKET}").put("a", b"x")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    s3_client._client.cache_clear()
    with pytest.raises(StorageError, match=r"nobody.* correct the AWS settings"):
        S3Storage(f"s3://{BUCKET}").put("a", b"x")


def test_an_endpoint_that_does_not_answer_is_said_to(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://name:password@127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3_client._client.cache_clear()
    with pytest.raises(StorageError, match="the S3 endpoint does not answer") as raised:
        S3Storage(f"s3://{BUCKET}").put("a", b"x")
    assert "password" not in str(raised.value)


def test_the_users_own_number_of_attempts_counts(
    storage: S3Storage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    s3_client._client.cache_clear()
    proxy.fail(Fault("PUT", "/a", status=500, times=9))
    with pytest.raises(StorageError):
        storage.put("a", b"x")
    assert proxy.count()["PUT"] == 2
