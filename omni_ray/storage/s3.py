"""A bucket and a prefix in it as a storage.

An object is whole or not there, so a PUT is a commit and nothing has a temporary name; what a killed run leaves
unfinished are multipart uploads. `create` and `touch` are conditional writes (If-None-Match, If-Match), decided by the
store; ages are told by its clock, not by this host's.
"""

import email.utils
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from botocore.exceptions import BotoCoreError, ClientError

from omni_ray.errors import DataError, NotStored, Refused, StorageError
from omni_ray.storage.base import Appender, Assembly, Log, Slice, Stat, Storage, Writer, check_key
from omni_ray.storage.s3_client import (
    CONFLICT_ATTEMPTS,
    client,
    code_of,
    is_missing,
    naming,
    parse_uri,
    pause,
    read_body,
    status_of,
    was_retried,
)
from omni_ray.storage.s3_log import S3Appender, read_segments, to_logs
from omni_ray.storage.s3_parts import S3Assembly
from omni_ray.storage.s3_streams import RangeReader, S3Writer, StagedPut, abort_upload

DELETE_AT_ONCE = 1000  # keys in one request, the most that S3 takes


class S3Storage(Storage):
    """Keys below `s3://bucket/prefix`; the bucket must exist."""

    packs = True

    def __init__(self, uri: str) -> None:
        self.bucket, prefix = parse_uri(uri)
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        self.uri = self.location = f"s3://{self.bucket}/{self._prefix}".rstrip("/")

    def target(self, key: str) -> dict[str, str]:
        """The arguments that name the object behind `key` in a request.

        Raises:
            StorageError: for a key that would leave the root.
        """
        return {"Bucket": self.bucket, "Key": self._prefix + check_key(key, self.uri)}

    def uri_of(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def put(self, key: str, data: bytes) -> None:
        self.check()
        with naming(self.uri_of(key)):
            client().put_object(**self.target(key), Body=data)

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._put_if(key, data, IfNoneMatch="*")
        except ClientError as error:
            with naming(self.uri_of(key)):
                if status_of(error) != 412:
                    raise
            # an attempt whose answer was lost may have been the one that wrote it
            return was_retried(error) and self.read(key) == data
        return True

    def touch(self, key: str) -> bool:
        data: bytes = b""
        try:
            there = client().get_object(**self.target(key))
            data = there["Body"].read()
            self._put_if(key, data, IfMatch=there["ETag"])
        except ClientError as error:
            if is_missing(error):
                return False
            with naming(self.uri_of(key)):
                if status_of(error) != 412:
                    raise
            return was_retried(error) and self.read(key) == data
        except BotoCoreError:
            with naming(self.uri_of(key)):
                raise
        return True

    def check_exclusive(self, key: str) -> None:
        there = self.read(key)
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"00000000000000000000000000000000"'}):
            try:
                self._put_if(key, there, **condition)
            except ClientError as error:
                if status_of(error) == 412:
                    continue
                with naming(self.uri_of(key)):
                    if status_of(error) != 501:
                        raise
            raise Refused(
                f"{self.uri}: this endpoint ignores conditional writes ({', '.join(condition)}), without which two "
                "runs could write the same output; use a store that has them (as AWS S3 and MinIO) or a folder"
            )

    def _put_if(self, key: str, data: bytes, **condition: str) -> None:
        """A conditional write; one that meets another one at the same moment (409) is asked for again."""
        for attempt in range(1, CONFLICT_ATTEMPTS + 1):
            try:
                client().put_object(**self.target(key), Body=data, **condition)
                return
            except ClientError as error:
                if status_of(error) != 409 or attempt == CONFLICT_ATTEMPTS:
                    raise
                pause(attempt)

    def writer(self, key: str) -> Writer:
        return S3Writer(self, key)

    def staged(self, key: str, data: bytes) -> Writer:
        return StagedPut(self, key, data)

    def assembly(self, key: str, token: str = "") -> Assembly:
        return S3Assembly(self, key, token)

    def appender(self, key: str) -> Appender:
        return S3Appender(self, key)

    def logs(self, folder: str) -> list[Log]:
        return to_logs(folder, self.list(folder))

    def read_log(self, log: Log, length: int | None = None) -> bytes:
        return read_segments(self, log, length)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with naming(self.uri_of(key)):
            return get_range(self.target(key), start, length)

    def read_ahead(self, slices: Iterable[Slice], window: int = 16) -> Iterator[bytes]:
        with ThreadPoolExecutor(window, "s3-read") as pool:
            under_way: deque[Future[bytes]] = deque()
            try:
                for part in slices:
                    under_way.append(pool.submit(self.read, *part))
                    if len(under_way) >= window:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                for future in under_way:
                    future.cancel()

    def open(self, key: str) -> BinaryIO:
        with naming(self.uri_of(key)):
            there = client().head_object(**self.target(key))
        return open_object(self.bucket, self.target(key)["Key"], there["ContentLength"], there["ETag"])

    def stat(self, key: str) -> Stat | None:
        with naming(self.uri_of(key)):
            try:
                there = client().head_object(**self.target(key))
            except ClientError as error:
                if is_missing(error):
                    return None
                raise
        return Stat(key, there["ContentLength"], _nanoseconds(there["LastModified"]))

    def list(self, prefix: str) -> Iterator[Stat]:
        folder = self._prefix + (f"{check_key(prefix, self.uri)}/" if prefix else "")
        with naming(self.uri_of(prefix)):
            for found in list_objects(self.bucket, folder):
                key = found["Key"].removeprefix(self._prefix)
                if not key.endswith("/"):  # what some tools make to show an empty folder
                    yield Stat(key, found["Size"], _nanoseconds(found["LastModified"]))

    def delete(self, key: str) -> None:
        self.check()
        with naming(self.uri_of(key)):
            client().delete_object(**self.target(key))

    def delete_tree(self, prefix: str) -> None:
        self.delete_many([stat.key for stat in self.list(prefix)])

    def delete_many(self, keys: Collection[str]) -> None:
        """Remove keys, up to a thousand in one request, in no particular order."""
        wanted = [self.target(key)["Key"] for key in keys]
        for at in range(0, len(wanted), DELETE_AT_ONCE):
            self.check()
            objects = [{"Key": key} for key in wanted[at : at + DELETE_AT_ONCE]]
            with naming(self.uri):
                done = client().delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
            for failed in done.get("Errors", ()):
                raise StorageError(
                    f"s3://{self.bucket}/{failed['Key']}: cannot be deleted ({failed['Code']}); the credentials in use "
                    "need s3:DeleteObject here"
                )

    def folders(self, prefix: str) -> Iterator[str]:
        folder = self._prefix + (f"{check_key(prefix, self.uri)}/" if prefix else "")
        with naming(self.uri_of(prefix)):
            yield from sorted(list_folders(self.bucket, folder))

    def sweep(self, prefix: str, only: Collection[str] | None = None, deep: bool = True) -> int:
        folder = self._prefix + (f"{check_key(prefix, self.uri)}/" if prefix else "")
        with naming(self.uri_of(prefix)):
            left = [
                upload
                for page in client().get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=folder)
                for upload in page.get("Uploads", ())
                if only is None or upload["Key"].removeprefix(self._prefix) in only
            ]
        for upload in left:
            target = {"Bucket": self.bucket, "Key": upload["Key"]}
            abort_upload(target, f"s3://{self.bucket}/{upload['Key']}", upload["UploadId"])
        return len(left)

    def now_ns(self) -> int:
        with naming(self.uri):
            answer = client().list_objects_v2(Bucket=self.bucket, Prefix=f"{self._prefix}.omni_ray/lease/", MaxKeys=1)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is None:
            raise StorageError(f"{self.uri}: the store does not tell the time (no Date header); use another endpoint")
        return int(email.utils.parsedate_to_datetime(date).timestamp() * 1e9)

    def free_bytes(self) -> int | None:
        return None


def open_object(bucket: str, key: str, size: int, etag: str, region: tuple[int, int] = (0, 0)) -> BinaryIO:
    """A seekable stream over one object as it was when it had this ETag; reading it fails once it is another one.

    The bytes [start, stop) of `region` are those that are sure to be read.
    """
    target = {"Bucket": bucket, "Key": key}

    def fetch(start: int, length: int) -> bytes:
        try:
            with naming(f"s3://{bucket}/{key}"):
                return get_range(target, start, length, IfMatch=etag)
        except NotStored as error:
            raise DataError(
                f"s3://{bucket}/{key}: gone since it was listed; put it back, or --update takes what is there now"
            ) from error

    return cast(BinaryIO, RangeReader(fetch, size, region))


def get_range(target: dict[str, str], start: int, length: int | None, **condition: str) -> bytes:
    """Bytes [start, start + length) of an object, fewer only where it ends."""
    if length == 0:
        return b""
    arguments: dict[str, Any] = {**target, **condition}
    if start or length is not None:
        arguments["Range"] = f"bytes={start}-" + ("" if length is None else str(start + length - 1))

    def fetch() -> dict[str, Any]:
        answer: dict[str, Any] = client().get_object(**arguments)
        if "Range" in arguments and not answer.get("ContentRange", "").startswith(f"bytes {start}-"):
            raise StorageError(
                f"s3://{target['Bucket']}/{target['Key']}: the store ignores ranged reads; use another endpoint"
            )
        return answer

    try:
        return read_body(fetch)
    except ClientError as error:
        if code_of(error) == "InvalidRange":  # nothing is there from `start` on
            return b""
        raise


def list_objects(bucket: str, prefix: str, after: str = "") -> Iterator[dict[str, Any]]:
    """Every object below a prefix, those behind the key `after`, a page of a thousand at a time."""
    arguments = {"Bucket": bucket, "Prefix": prefix, **({"StartAfter": after} if after else {})}
    for page in client().get_paginator("list_objects_v2").paginate(**arguments):
        yield from page.get("Contents", ())


def list_folders(bucket: str, prefix: str) -> Iterator[str]:
    """The names of the folders that lie directly below a prefix."""
    for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
        for found in page.get("CommonPrefixes", ()):
            yield found["Prefix"].removeprefix(prefix).rstrip("/")


def _nanoseconds(moment: Any) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000
