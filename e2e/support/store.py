"""The bucket, as whoever owns the data sees it: put files in, take prefixes out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Bucket:
    """A place on S3, reached from this machine."""

    uri: str
    """`s3://bucket/prefix`."""
    endpoint: str
    access_key: str
    secret_key: str

    def put(self, key: str, content: bytes) -> str:
        """Write an object below the prefix and return its URI."""
        bucket, prefix = self._split()
        self._client().put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=content)
        return f"{self.uri}/{key}"

    def get(self, key: str) -> bytes:
        """Read an object below the prefix."""
        bucket, prefix = self._split()
        return self._client().get_object(Bucket=bucket, Key=f"{prefix}/{key}")["Body"].read()

    def clear(self) -> int:
        """Delete everything below the prefix; return how many objects that was."""
        bucket, prefix = self._split()
        client = self._client()
        keys = [
            entry["Key"]
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
            for entry in page.get("Contents", [])
        ]
        for key in keys:
            client.delete_object(Bucket=bucket, Key=key)
        return len(keys)

    def keys(self, below: str = "") -> list[str]:
        """List the keys below the prefix, without it."""
        bucket, prefix = self._split()
        pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/{below}")
        return [entry["Key"].removeprefix(f"{prefix}/") for page in pages for entry in page.get("Contents", [])]

    def _split(self) -> tuple[str, str]:
        bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        return bucket, prefix

    def _client(self) -> "S3Client":
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5}),
        )
