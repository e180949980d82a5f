"""Listings."""

import base64
import html
import re
import time
from contextlib import suppress
from urllib.parse import quote, quote_plus

from tests.support.s3.objects import Objects
from tests.support.s3.values import XML, Reply, Request, S3Error


def escape(text: str) -> str:
    """As S3 does it: control characters become references, though XML 1.0 has no `&#x0;`."""
    return re.sub(r"[\x00-\x1f]", lambda char: f"&#x{ord(char[0]):x};", html.escape(text))


def list_folder(server: Objects, request: Request, bucket: str, folder: str, do: str | None) -> Reply:
    """ListObjectsV2, or the page of links."""
    args = request.args
    if request.index:
        names = server.entries(bucket, folder, "/", folder, False)
        urls = (quote(f"/_index/{bucket}/{name}", errors="surrogateescape") for name in names)
        return Reply.text(200, "text/html", "".join(f'<a href="{url}">.</a>\n' for url in urls))
    if request.command == "HEAD":
        return Reply()
    if args.get("list-type") != "2":
        raise S3Error(501, "NotImplemented", "Of listings, only ListObjectsV2 is served.")
    prefix, delimiter = args.get("prefix", ""), args.get("delimiter", "")
    token, start_after = args.get("continuation-token"), args.get("start-after", "")
    after = base64.b64decode(token).decode("utf-8", "surrogateescape") if token else start_after
    entries = server.entries(bucket, prefix, delimiter, after, token is not None)
    size = min(int(args.get("max-keys", 1000)), server.settings["page_size"])
    page = [] if do == "empty_list" else entries[:size]
    more = 0 < len(page) < len(entries) and do != "drop_page"
    following = base64.b64encode(page[-1].encode("utf-8", "surrogateescape")).decode() if more else ""

    def encode(text: str) -> str:
        url = args.get("encoding-type") == "url"  # in which S3 writes a space as "+"
        return quote_plus(text, "/*", errors="surrogateescape") if url else escape(text)

    rows = []
    for name in page:
        if delimiter and delimiter in name[len(prefix) :]:
            rows.append(f"<CommonPrefixes><Prefix>{encode(name)}</Prefix></CommonPrefixes>")
            continue
        with suppress(S3Error):  # it may be gone by now
            obj = server.open(bucket, name)
            modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(obj.mtime))
            about = f"<Key>{encode(name)}</Key><LastModified>{modified}</LastModified><Size>{obj.size}</Size>"
            about += f"<ETag>{escape(server.etag(obj))}</ETag><StorageClass>STANDARD</StorageClass>"
            rows.append(f"<Contents>{about}</Contents>")
    fields = {
        "Delimiter": encode(delimiter),
        "StartAfter": encode(start_after),
        "EncodingType": args.get("encoding-type", ""),
        "ContinuationToken": token or "",
        "NextContinuationToken": following,
        "IsTruncated": "true" if more or do == "drop_page" else "false",
    }
    head = "".join(f"<{name}>{text}</{name}>" for name, text in fields.items() if text)
    head += f"<Name>{bucket}</Name><Prefix>{encode(prefix)}</Prefix><MaxKeys>{size}</MaxKeys>"
    text = f"{head}<KeyCount>{len(rows)}</KeyCount>{''.join(rows)}"
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return Reply.text(200, "application/xml", f'{XML}<ListBucketResult xmlns="{space}">{text}</ListBucketResult>')
