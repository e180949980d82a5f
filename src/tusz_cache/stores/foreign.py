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
    Stalled,
    Throttled,
    TransferError,
    Unreachable,
    UsageError,
    WrongRegion,
)
from tusz_cache.stores.schemes import identity_hint

_AGAIN = "check the network and the endpoint, then run the same command again: what is whole is kept"
_SECRETS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthorizationHeaderMalformed"}
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired", "RequestExpired"}
_REGION = {"PermanentRedirect", "Redirect", "TemporaryRedirect", "IllegalLocationConstraintException", "301", "307"}
_LIMITS = {"SlowDown", "ServiceUnavailable", "503", "429"}
_BUSY = _LIMITS | {"InternalError", "RequestTimeout", "500", "502", "504", "408"}
_NETWORK = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "HTTPClientError",
    "ClientConnectorError",
    "ServerDisconnectedError",
    "ServerTimeoutError",
    "ClientConnectionError",  # aiohttp
    "ServiceRequestError",  # azure
    "ServiceResponseError",
    "TransportError",  # of google-auth, and of the Hub's HTTP client
    "RequestException",  # requests, by which Google's credentials are renewed
}
_LOST = {"ConnectionLost", "SFTPConnectionLost", "SFTPNoConnection", "ChannelOpenError"}  # asyncssh
_TORN = {"ResponseParserError", "IncompleteReadError", "ClientPayloadError", "IncompleteRead", "ResponseStreamingError"}


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn whatever a filesystem raises about `url` into a CacheError with a hint."""
    try:
        yield
    except CacheError:
        raise
    except Exception as error:
        raise (
            _by_kind(error, url, _PLAIN)
            or _by_code(error, url)
            or _by_text(error, url)
            or _by_kind(error, url, _KINDS)
            or _unknown(error, url)
        ) from error


@contextlib.contextmanager
def translated_read(what: str) -> Iterator[None]:
    """Turn whatever a filesystem raises while it reads into a TransferError that may be tried again, or is final."""
    try:
        with translated(what):
            yield
    except (NoSuchSource, AccessDenied, TransferError, SourceChanged):
        raise
    except CacheError as error:
        cause = error.__cause__ or error
        if _code(cause) in _LIMITS:
            hint = "the store limits requests: lower --workers, or run again later"
            raise Throttled(str(error), hint=hint) from cause
        kind = Stalled if isinstance(cause, TimeoutError) else TransferError
        raise kind(str(error), hint=error.hint) from cause


def is_lost_connection(error: BaseException) -> bool:
    """Whether a connection that all requests share is gone, or silent, so that only a new one helps."""
    lost = _kinds(error) & (_LOST | {"ConnectionError", "TimeoutError"})
    return bool(lost) or "SFTP connections" in str(error)  # sshfs's own error is a bare ValueError


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
        status = (
            getattr(link, "status", None)  # aiohttp
            or getattr(link, "status_code", None)  # azure
            or getattr(response, "status_code", None)  # the Hub
            or (getattr(link, "code", None) if type(link).__name__ == "HttpError" else None)  # gcsfs
        )
        if isinstance(status, int):
            return str(status)
    return None


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for link in _chain(error) for kind in type(link).__mro__}


def _by_code(error: BaseException, url: str) -> CacheError | None:
    code = _code(error)
    if code is None:
        return None
    if code == "412":
        return SourceChanged(f"{url} was changed after it was listed", hint="run again: the plan is made anew")
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
            hint=identity_hint(url),
        )
    if code in _BUSY:
        return Unreachable(f"the store is busy or failing ({code}): {url}", hint=_AGAIN)
    return SourceError(
        f"the store answered {code} for {url}: {error}", hint="look the code up in the store's documentation"
    )


def _unknown(error: BaseException, url: str) -> CacheError:
    hint = "check the URL and --storage-option against the documentation of its fsspec filesystem"
    return SourceError(f"{url}: {type(error).__name__}: {error}", hint=hint)


# class names -> what to say. A class also stands for those that derive from it; no hint: how to identify there.
Row = tuple[set[str], type[CacheError], str, str]


def _by_kind(error: BaseException, url: str, table: tuple[Row, ...]) -> CacheError | None:
    kinds = _kinds(error)
    for names, make, message, hint in table:
        if kinds & names:
            return make(message.format(url=url, error=error), hint=hint or identity_hint(url))
    return None


def _by_text(error: BaseException, url: str) -> CacheError | None:
    if isinstance(error, OSError) and str(error).startswith("Forbidden"):  # how gcsfs tells a 403
        return AccessDenied(f"access to {url} is denied: {error}", hint=identity_hint(url))
    if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
        return UsageError(f"a storage option does not fit {url}: {error}", hint="check --storage-option")
    if isinstance(error, ValueError) and "endpoint" in str(error):
        return UsageError(f"{url}: {error}", hint="check the spelling of the URL and of --endpoint-url")
    return None


# those whose class says more than their status
_PLAIN: tuple[Row, ...] = (
    ({"GatedRepoError"}, AccessDenied, "the hub does not let us read {url}: {error}", ""),
    (
        {"RepositoryNotFoundError", "RevisionNotFoundError"},
        NoSuchSource,
        "the hub shows no such repository or revision: {url}",
        "check the name for typing errors; for a private repository log in with `hf auth login` or set HF_TOKEN",
    ),
    (
        {"HostKeyNotVerifiable"},
        AccessDenied,
        "the server of {url} is not a known one: {error}",
        "check its key and write it down: ssh-keyscan HOST >> ~/.ssh/known_hosts, or --storage-option known_hosts=FILE",
    ),
)
# best known first
_KINDS: tuple[Row, ...] = (
    (
        {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"},
        NoCredentials,
        "no credentials for {url}: {error}",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass --profile, or --anon for a public bucket",
    ),
    (
        {"DefaultCredentialsError", "CredentialUnavailableError", "LocalTokenNotFoundError"},
        NoCredentials,
        "no credentials for {url}: {error}",
        "",
    ),
    (
        {"ClientAuthenticationError", "RefreshError", "PermissionDenied", "KeyImportError", "KeyEncryptionError"},
        AccessDenied,
        "the credentials for {url} are not accepted: {error}",
        "",
    ),
    ({"SFTPPermissionDenied"}, AccessDenied, "access to {url} is denied: {error}", ""),
    ({"SFTPNoSuchFile", "SFTPNoSuchPath"}, NoSuchSource, "there is nothing at {url}", "check the path"),
    (
        {"HFValidationError", "HfUriError"},
        UsageError,
        "{url}: {error}",
        "the form is hf://datasets/OWNER/NAME@REVISION",
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
    (_LOST | {"TimeoutError", "ConnectionError", "gaierror"}, Unreachable, "no connection to {url}: {error}", _AGAIN),
    (
        {"ImportError"},
        MissingPackage,
        "{url}: {error}",
        "install the fsspec package for this scheme",
    ),
    ({"FileNotFoundError"}, NoSuchSource, "there is nothing at {url}", "check the path for typing errors"),
    ({"PermissionError"}, AccessDenied, "access to {url} is denied: {error}", ""),
    ({"OSError"}, SourceError, "cannot read {url}: {error}", "check that the source is in order, then run again"),
)
