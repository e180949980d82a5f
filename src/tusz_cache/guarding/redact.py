"""Take secrets out of what mounts and URLs say of themselves, before anybody sees it."""

import re

_QUOTED = r"(?:'[^']*'?)+|(?:\"[^\"]*\"?)+"
_SECRETS = "pass|pwd|secret|token|key|cred|sig|sas|auth"
_HIDDEN = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        # rclone: connection strings, ":s3,secret_access_key=...:bucket", and what it makes of them, ":s3{6KBlL}:bucket"
        (r"\A(?P<keep>:[\w.+-]+,).*=.*(?=:[^:]*\Z)", re.DOTALL),
        (r"(?<=\{)[^{}]*(?=\})", 0),
        # https://user:password@host, //user:password@host/share, https://token@host
        (r"(?<=//)(?=[^\s@]*:)\S*(?=@)", 0),
        (r"(?<=http://)[^\s/@]+(?=@)|(?<=https://)[^\s/@]+(?=@)", 0),
        # user:password@host, but not Lustre's host@tcp:host@tcp:/name
        (r"(?P<keep>(?:\A|(?<=[\s,='\"]))[^\s/:@,=]*:)(?!/)\S*(?=@)", 0),
        # password=..., X-Amz-Signature=..., token='...'
        (rf"(?P<keep>(?<![\w.-])[\w.-]*(?:{_SECRETS})[\w.-]*=)(?:{_QUOTED}|[^,;&\s}}]*)", re.IGNORECASE),
        (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", 0),
    )
)


def redact(text: str) -> str:
    """Return `text` with passwords, tokens, keys and connection strings as "***". It may hide more than it must."""
    for pattern in _HIDDEN:
        text = pattern.sub(lambda match: match.groupdict().get("keep", "") + "***", text)
    return text
