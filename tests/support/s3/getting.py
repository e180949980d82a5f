"""Objects, ranges and parts of them."""

import re
from email.utils import formatdate
from itertools import accumulate

from tests.support.s3.objects import Objects
from tests.support.s3.values import Reply, Request, S3Error

CHECKSUM_MODE = "x-amz-checksum-mode"  # a header, or an argument of a presigned URL


def range_span(header: str, size: int) -> tuple[int, int] | None:
    """From where to where a Range goes; None, as S3 has it, if it is no single range."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    first, last = match.groups() if match else ("", "")
    if not first + last or (first and last and int(first) > int(last)):
        return None
    start = int(first) if first else max(0, size - int(last))
    if start >= size:
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable")
    return start, min(size, int(last) + 1) if first and last else size


def get_object(server: Objects, request: Request, bucket: str, key: str, do: str | None) -> Reply:
    """GET and HEAD of an object, of a range or of a part."""
    args = request.args
    if do in ("change", "delete"):
        getattr(server, do)(bucket, key)
    obj = server.open(bucket, key)
    etag = server.etag(obj)
    wanted = request.headers.get("If-Match", "*").strip('"')
    if wanted not in ("*", etag.strip('"')) and do != "ignore_if_match":
        raise S3Error(412, "PreconditionFailed", "A pre-condition you specified did not hold")
    headers = {
        "ETag": '"0123456789abcdef0123456789abcdef"' if do == "other_etag" else etag,
        "Last-Modified": formatdate(obj.mtime, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": "binary/octet-stream",
    }
    if do == "no_etag":
        del headers["ETag"]
    if server.settings["sse"]:
        headers["x-amz-server-side-encryption"] = server.settings["sse"]
    span = None
    if number := int(args.get("partNumber", 0)):
        parts = server.parts(obj, server.settings["etag"]) or server.parts(obj, server.settings["checksum"])
        if parts:
            headers["x-amz-mp-parts-count"] = str(len(parts))
        ends = [0, *accumulate(parts or [obj.size])]
        if number >= len(ends):
            raise S3Error(416, "InvalidPartNumber", "The requested partnumber is not satisfiable")
        span = ends[number - 1], ends[number]
    elif do != "ignore_range":
        span = range_span(request.headers.get("Range", ""), obj.size)
    start, stop = span or (0, obj.size)
    status = 200
    if span and start < stop:  # not so for the part of an empty object
        status = 200 if do == "status200_with_content_range" else 206
        shift = do == "wrong_content_range"
        headers["Content-Range"] = f"bytes {start + shift}-{stop - 1 + shift}/{obj.size}"
    elif "ENABLED" in (args.get(CHECKSUM_MODE), request.headers.get(CHECKSUM_MODE)):
        headers |= server.checksum(obj)
    return Reply(status, headers, [(obj.source, start, stop - start)], start)
