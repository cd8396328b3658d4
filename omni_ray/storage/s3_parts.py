"""An object that many processes make together: one multipart upload."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from omni_ray.storage.base import Assembly, PartStat, Slice
from omni_ray.storage.s3_client import client, code_of, naming
from omni_ray.storage.s3_streams import (
    CHECKSUM,
    MIN_PART_BYTES,
    abort_upload,
    complete_upload,
    create_upload,
    named_part,
    upload_part,
)

if TYPE_CHECKING:
    from omni_ray.storage.s3 import S3Storage


class S3Assembly(Assembly):
    """The token is the upload's id; a tag is a part's ETag, and its CRC where the store told one."""

    least_bytes = MIN_PART_BYTES

    def __init__(self, storage: "S3Storage", key: str, token: str) -> None:
        self._storage = storage
        self._key = key
        self._target = storage.target(key)
        self._uri = storage.uri_of(key)
        self.token = token or create_upload(self._target, self._uri)

    def exists(self) -> bool:
        with naming(self._uri):
            try:
                client().list_parts(**self._target, UploadId=self.token, MaxParts=1)
            except ClientError as error:
                if code_of(error) == "NoSuchUpload":
                    return False
                raise
            return True

    def parts(self) -> dict[int, PartStat]:
        with naming(self._uri):
            pages = client().get_paginator("list_parts").paginate(**self._target, UploadId=self.token)
            return {
                part["PartNumber"]: PartStat(part["Size"], _tag(part))
                for page in pages
                for part in page.get("Parts", ())
            }

    def put_part(self, number: int, data: bytes) -> str:
        with naming(self._uri):
            return _tag(upload_part(self._target, self.token, number, data))

    def copy_part(self, number: int, part: Slice) -> str:
        with naming(self._storage.uri_of(part.key)):
            done = client().upload_part_copy(
                **self._target,
                UploadId=self.token,
                PartNumber=number,
                CopySource=self._storage.target(part.key),
                CopySourceRange=f"bytes={part.start}-{part.start + part.length - 1}",
            )
            return _tag(done["CopyPartResult"])

    def commit(self, tags: Mapping[int, str]) -> None:
        if not tags:  # an upload has a part at least
            self._storage.put(self._key, b"")
            self.abort()
            return
        told = {number: dict(zip(("ETag", CHECKSUM), tags[number].split(), strict=False)) for number in sorted(tags)}
        parts = [named_part(number, answer) for number, answer in told.items()]
        self._storage.check()
        complete_upload(self._target, self._uri, self.token, parts)

    def abort(self) -> None:
        abort_upload(self._target, self._uri, self.token)


def _tag(part: Mapping[str, Any]) -> str:
    return f"{part['ETag']} {part.get(CHECKSUM) or ''}".rstrip()
