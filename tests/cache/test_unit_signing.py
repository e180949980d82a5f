"""What our own signatures must be: those that botocore makes, for any key, or none at all."""

from collections.abc import Callable
from urllib.parse import quote

import botocore.session
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.stores.signing import PROBES, Presigner, presigner

SECRET = "a/secret+key"
OPERATIONS = {"GET": "get_object", "HEAD": "head_object"}
Sign = Callable[[str, str, int | None], str]  # by method, key, number of a part


def signer(token: str | None = None, **options: str) -> Sign:
    """Return botocore's own way to sign, at one moment."""
    session = botocore.session.get_session()
    session.set_credentials("AKIDEXAMPLE", SECRET, token)
    style = Config(signature_version="s3v4", s3={"addressing_style": options.pop("style", "auto")})
    client = session.create_client("s3", region_name=options.pop("region", "eu-west-1"), config=style, **options)

    def sign(method: str, key: str, part: int | None) -> str:
        parameters = {"Bucket": "my-bucket", "Key": key, "ChecksumMode": "ENABLED"}
        numbered = {} if part is None else {"PartNumber": part}
        return str(client.generate_presigned_url(OPERATIONS[method], Params=parameters | numbered, ExpiresIn=3600))

    return sign


SIGNERS = {
    "path": signer(endpoint_url="http://127.0.0.1:9000"),
    "default-port": signer(endpoint_url="https://minio.example:443"),
    "virtual": signer(style="virtual"),
    "token": signer(token="a token/with+signs=="),
    "prefix": signer(endpoint_url="https://gateway.example/below/it", style="path"),
}


@pytest.mark.parametrize("host", ["tusz-cache", "my-tusz-cache-eu", "probe", "tusz_cache"])
def test_no_name_of_a_bucket_confuses_it(host: str):
    """A bucket may be called what we like to call keys."""
    signed = [f"https://{host}.example/" + quote(key, safe="/~") + asked(part) for _, key, part in PROBES]
    made = presigner(signed, "")

    assert made is not None
    assert f"https://{host}.example/k" == made.url("GET", "k")


def asked(part: int | None) -> str:
    """Return the query of a public object's URL."""
    return "" if part is None else f"?partNumber={part}"


def made_by(sign: Sign) -> Presigner:
    """Return a presigner made from URLs that lie within one second."""
    for _ in range(10):
        if (made := presigner([sign(*probe) for probe in PROBES], SECRET)) is not None:
            return made
    raise AssertionError("not once within one second")


@pytest.mark.parametrize("name", SIGNERS)
@given(
    method=st.sampled_from(sorted(OPERATIONS)),
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(lambda key: "\0" not in key),
    part=st.none() | st.integers(1, 10_000),
)
def test_we_sign_as_botocore_does(name: str, method: str, key: str, part: int | None):
    """Our URL of any key, or of one of its parts, is botocore's URL of it."""
    sign = SIGNERS[name]
    for _ in range(10):  # a second may end between the two
        ours, theirs = made_by(sign).url(method, key, part), sign(method, key, part)
        if ours == theirs:
            return
    assert theirs == ours


@pytest.mark.parametrize("name", SIGNERS)
def test_another_secret_is_noticed(name: str):
    """With a secret that did not sign the URLs we sign nothing."""
    sign = SIGNERS[name]

    assert presigner([sign(*probe) for probe in PROBES], "another") is None


@pytest.mark.parametrize(
    "url",
    [
        "https://bucket.example/{}?AWSAccessKeyId=AKID&Signature=abc&Expires=1",
        "https://bucket.example/{}?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Signature=00",
        "https://bucket.example/elsewhere",
        "",
    ],
)
def test_other_signatures_are_left_to_botocore(url: str):
    """URLs that are signed in another way make no presigner."""
    assert presigner([url.format(key) for _, key, _ in PROBES], SECRET) is None


def test_a_public_bucket_needs_no_signature():
    """URLs without a signature are continued as they are."""
    signed = [f"https://b.example/{quote(key, safe='/~')}{asked(part)}" for _, key, part in PROBES]
    made = presigner(signed, "")

    assert made is not None
    assert "https://b.example/train/a%20b.npz" == made.url("GET", "train/a b.npz")
    assert "https://b.example/k?partNumber=2" == made.url("HEAD", "k", 2)
