"""What can go wrong with a store. Every message is a plain sentence without secrets that says what to check."""
# ruff: noqa: N818 (they name states of the store, not mistakes of a program)

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)


class StoreError(Exception):
    """The store did not do what was asked."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        """Whether waiting can help: not with wrong credentials, a missing bucket or a missing object."""


class NoAnswer(StoreError):
    """The server cannot be reached, or says nothing."""


class ObjectNotFound(StoreError):
    """Nothing lies under that key."""


class AlreadyExists(StoreError):
    """The object was to be created, and somebody has created it before."""


class PreconditionFailed(StoreError):
    """The object is not what it was when it was read."""


class AliasMoved(StoreError):
    """The alias does not point where it was expected to point."""


class Superseded(StoreError):
    """A later attempt of the same job registers: this one was given up, and is no longer wanted."""


class UnreadableDocument(StoreError):
    """What lies there is too large, no JSON, or not what it should say."""


class IncompleteVersion(StoreError):
    """The version has no manifest: it does not exist, or was never finished."""


class CorruptVersion(StoreError):
    """A file of the version is not what its manifest says."""


_CREDENTIAL_CODES = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "ExpiredToken",
        "XAdminUserNotFound",
    }
)
_ACCESS_CODES = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "403"})
_MISSING_CODES = frozenset({"NoSuchKey", "404", "NotFound"})
_HTTP_PRECONDITION_FAILED = 412
_HTTP_TOO_MANY_REQUESTS = 429
_HTTP_SERVER_ERROR = 500


def translate(error: Exception, server: str, bucket: str, key: str = "") -> StoreError:
    """Return the `StoreError` that says what a client error means for whoever runs Modelwright.

    `server` is the endpoint without user information.
    """
    if isinstance(error, ClientError):
        return _translate_answer(error, server, bucket, key)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StoreError(
            f"There are no credentials for the S3 server at {server}: name a Secret with AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY in storage.secretName, or give the pods an identity of their own",
            retryable=False,
        )
    if isinstance(error, EndpointConnectionError | HTTPClientError):
        return NoAnswer(f"The S3 server at {server} cannot be reached: check storage.endpoint and the network")
    if isinstance(error, BotoCoreError):
        return StoreError(f"A request to the S3 server at {server} failed with {type(error).__name__}")
    return StoreError(f"A transfer between this machine and the S3 server at {server} failed: {type(error).__name__}")


def _translate_answer(error: ClientError, server: str, bucket: str, key: str) -> StoreError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    where = f"s3://{bucket}/{key}"
    if status == _HTTP_PRECONDITION_FAILED or code in {"PreconditionFailed", "ConditionalRequestConflict"}:
        return PreconditionFailed(f"{where} at {server} has been changed by somebody else")
    if code == "NoSuchBucket":
        return StoreError(
            f"Bucket {bucket} does not exist at {server}: create it, or correct the S3 URI", retryable=False
        )
    if code in _MISSING_CODES:
        return ObjectNotFound(f"There is no object {where} at {server}", retryable=False)
    if code in _CREDENTIAL_CODES:
        return StoreError(
            f"The S3 server at {server} does not accept the credentials ({code}): check AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY in the Secret",
            retryable=False,
        )
    if code in _ACCESS_CODES:
        return StoreError(
            f"The S3 server at {server} refuses access to bucket {bucket}: check what the credentials may do",
            retryable=False,
        )
    transient = status >= _HTTP_SERVER_ERROR or status == _HTTP_TOO_MANY_REQUESTS
    return StoreError(f"The S3 server at {server} answered {code} (HTTP {status}) for {where}", retryable=transient)
