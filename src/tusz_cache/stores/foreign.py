"""Errors of fsspec, botocore, aiohttp and the operating system become ours. The only place that knows theirs.

Kinds are told by class name, since none of those packages may be imported just to name its errors.
"""

import contextlib
from collections.abc import Iterator

from tusz_cache.errors import (
    AccessDenied,
    CacheError,
    ListingBroken,
    MissingPackage,
    NoCredentials,
    NoSuchSource,
    SourceChanged,
    SourceError,
    TransferError,
    Unreachable,
    UsageError,
    WrongRegion,
)

_AGAIN = "check the network and the endpoint, then run the same command again: what is whole is kept"
_SECRETS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthorizationHeaderMalformed"}
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired", "RequestExpired"}
_REGION = {"PermanentRedirect", "Redirect", "TemporaryRedirect", "IllegalLocationConstraintException", "301", "307"}
_BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "503", "500", "502", "504", "429"}
_NETWORK = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "HTTPClientError",
    "ClientConnectorError",
    "ServerDisconnectedError",
    "ServerTimeoutError",
    "FSTimeoutError",
}
_TORN = {"ResponseParserError", "IncompleteReadError", "ClientPayloadError", "IncompleteRead", "ResponseStreamingError"}


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn whatever a filesystem raises about `url` into a CacheError with a hint."""
    try:
        yield
    except CacheError:
        raise
    except Exception as error:
        raise (_by_code(error, url) or _by_kind(error, url) or _unknown(error, url)) from error


@contextlib.contextmanager
def translated_read(what: str) -> Iterator[None]:
    """Turn whatever a filesystem raises while it reads into a TransferError that may be tried again, or is final."""
    try:
        with translated(what):
            yield
    except (NoSuchSource, AccessDenied, TransferError, SourceChanged):
        raise
    except CacheError as error:
        raise TransferError(str(error), hint=error.hint) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _code(error: BaseException) -> str | None:
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict) and (code := response.get("Error", {}).get("Code")):
            return str(code)
        if (status := getattr(link, "status", None)) and isinstance(status, int):
            return str(status)
    return None


def _by_code(error: BaseException, url: str) -> CacheError | None:
    code = _code(error)
    if code is None:
        return None
    if code in {"NoSuchBucket", "NoSuchKey", "404"}:
        what = "the bucket does not exist" if code == "NoSuchBucket" else "there is nothing"
        return NoSuchSource(
            f"{what}: {url}", hint="check the name for typing errors, and --endpoint-url if the store is not AWS"
        )
    if code in _EXPIRED:
        return AccessDenied(
            f"the credentials for {url} have expired ({code})", hint="renew them, then run again: what is whole is kept"
        )
    if code in _REGION:
        return WrongRegion(
            f"the bucket of {url} lives in another region ({code})",
            hint="""name it: --storage-option 'client_kwargs={"region_name": "eu-west-1"}'""",
        )
    if code in _SECRETS:
        return AccessDenied(
            f"the credentials for {url} are not accepted ({code})", hint="check key, secret and token, or --profile"
        )
    if code in {"AccessDenied", "AllAccessDisabled", "401", "403"}:
        return AccessDenied(
            f"access to {url} is denied ({code})",
            hint="the identity needs s3:ListBucket and s3:GetObject; try --anon for a public bucket, or --profile",
        )
    if code in _BUSY:
        return Unreachable(f"the store is busy or failing ({code}): {url}", hint=_AGAIN)
    return SourceError(
        f"the store answered {code} for {url}: {error}", hint="look the code up in the store's documentation"
    )


def _unknown(error: BaseException, url: str) -> CacheError:
    hint = "check the URL and --storage-option against the documentation of its fsspec filesystem"
    return SourceError(f"{url}: {type(error).__name__}: {error}", hint=hint)


def _by_kind(error: BaseException, url: str) -> CacheError | None:
    kinds = {kind.__name__ for link in _chain(error) for kind in type(link).__mro__}
    for names, make, message, hint in _KINDS:
        if kinds & names:
            return make(message.format(url=url, error=error), hint=hint)
    if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
        return UsageError(f"a storage option does not fit {url}: {error}", hint="check --storage-option")
    if isinstance(error, ValueError) and "endpoint" in str(error):
        return UsageError(f"{url}: {error}", hint="check the spelling of the URL and of --endpoint-url")
    return None


# class names, best known first -> what to say. A class also stands for those that derive from it.
_KINDS: tuple[tuple[set[str], type[CacheError], str, str], ...] = (
    (
        {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"},
        NoCredentials,
        "no credentials for {url}: {error}",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass --profile, or --anon for a public bucket",
    ),
    ({"ProfileNotFound"}, NoCredentials, "no such profile: {error}", "look at `aws configure list-profiles`"),
    (
        {"ParamValidationError", "InvalidRegionError"},
        UsageError,
        "{url}: {error}",
        "check the spelling of the URL and of --endpoint-url",
    ),
    (
        {"SSLError", "SSLCertVerificationError", "ClientConnectorCertificateError"},
        SourceError,
        "the certificate of {url} is not trusted: {error}",
        "name a file of certificates to trust in AWS_CA_BUNDLE, or the right host in --endpoint-url",
    ),
    (_TORN, ListingBroken, "the answer about {url} ended early: {error}", _AGAIN),
    (_NETWORK, Unreachable, "no connection to {url}: {error}", _AGAIN),
    ({"TimeoutError", "ConnectionError", "gaierror"}, Unreachable, "no connection to {url}: {error}", _AGAIN),
    (
        {"ImportError"},
        MissingPackage,
        "{url}: {error}",
        "install the fsspec package for this scheme, e.g. gcsfs for gs://",
    ),
    ({"FileNotFoundError"}, NoSuchSource, "there is nothing at {url}", "check the path for typing errors"),
    ({"PermissionError"}, AccessDenied, "access to {url} is denied: {error}", "check permissions or credentials"),
    ({"OSError"}, SourceError, "cannot read {url}: {error}", "check that the source is in order, then run again"),
)
