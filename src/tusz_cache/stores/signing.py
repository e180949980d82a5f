"""Signed URLs by the thousand: AWS Signature Version 4 in the query, with a key that is derived once. Pure.

The algorithm is in the S3 API reference, "Authenticating Requests: Using Query Parameters". botocore spends half a
millisecond on each URL; this takes 15 microseconds. It copies host, query and scope from a URL that botocore signed,
and is used only if it then signs other keys as botocore does.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlsplit

Ask = tuple[str, str, int | None]  # method, key, number of a part

# to be signed both ways: the first key can be no part of a host, the second has all characters that URLs treat apart
PROBES: tuple[Ask, ...] = (
    ("GET", "Tusz_Cache~probe", None),
    ("GET", "tusz cache/\u00fc+=&?#%~'()*!:,;@$.npz", None),
    ("HEAD", "Tusz_Cache~probe", 1),
)
_CHECKSUM_MODE = "x-amz-checksum-mode"


@dataclass(frozen=True, slots=True)
class Presigner:
    """Makes URLs of one bucket, all signed at one moment."""

    base: str  # scheme, host, and the path up to the key
    query: str  # "" for a bucket that anybody may read
    path: str  # of `base`
    scope: str  # date/region/service/aws4_request
    moment: str  # ISO 8601, basic
    headers: str  # canonical signed headers, and their names
    signing_key: bytes = field(repr=False)

    def url(self, method: str, key: str, part: int | None = None) -> str:
        """Return the URL of `key` for requests by `method`. part: number of the one part that is asked about."""
        quoted = quote(key, safe="/~")
        query = "&".join(filter(None, (_number(part), self.query)))
        if self.query:
            lines = (method, self.path + quoted, "&".join(sorted(query.split("&"))), self.headers, "UNSIGNED-PAYLOAD")
            request = "\n".join(lines)
            hashed = hashlib.sha256(request.encode()).hexdigest()
            to_sign = f"AWS4-HMAC-SHA256\n{self.moment}\n{self.scope}\n{hashed}"
            query += "&X-Amz-Signature=" + hmac.digest(self.signing_key, to_sign.encode(), "sha256").hex()
        return f"{self.base}{quoted}?{query}" if query else self.base + quoted


def _number(part: int | None) -> str:
    return "" if part is None else f"partNumber={part}"


def presigner(signed: Sequence[str], secret: str) -> Presigner | None:
    """Return a presigner that continues `signed`, the URLs of PROBES, or None if these are signed in another way.

    secret: the secret access key; "" for URLs without a signature.
    """
    url = urlsplit(signed[0])
    base, found, rest = signed[0].partition(PROBES[0][1])
    fields = dict(parse_qsl(url.query, keep_blank_values=True))
    credential, names = fields.get("X-Amz-Credential", ""), fields.get("X-Amz-SignedHeaders", "")
    _, _, scope = credential.partition("/")
    day, _, others = scope.partition("/")
    signing_key = ("AWS4" + secret).encode()
    for part in (day, *others.split("/")):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    values = {"host": url.netloc.removesuffix(":443" if url.scheme == "https" else ":80"), _CHECKSUM_MODE: "ENABLED"}
    headers = "".join(f"{name}:{values.get(name, '')}\n" for name in names.split(";")) + f"\n{names}"
    query = rest.removeprefix("?").rpartition("&X-Amz-Signature=")[0]
    made = Presigner(
        base=base,
        query=query,
        path=urlsplit(base).path,
        scope=scope,
        moment=fields.get("X-Amz-Date", ""),
        headers=headers,
        signing_key=signing_key,
    )
    return made if found and [made.url(*probe) for probe in PROBES] == list(signed) else None
