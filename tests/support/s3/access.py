"""Who may see what."""

import calendar
import os
import re
import time

from tests.support.s3.objects import Objects
from tests.support.s3.values import Request, S3Error, matches


def authorize(server: Objects, request: Request, bucket: str, key: str, folder: bool) -> None:
    """Whether the request may see the bucket or the object. Signatures are not checked."""
    args, settings = request.args, server.settings
    if "X-Amz-Expires" in args:
        signed = calendar.timegm(time.strptime(args["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
        if signed + int(args["X-Amz-Expires"]) < time.time():
            raise S3Error(403, "AccessDenied", "Request has expired")
    if settings["credentials"] is not None and not request.index:
        header = re.search("Credential=([^,]+)", request.headers.get("Authorization", ""))
        scope = args.get("X-Amz-Credential", header[1] if header else "")
        token = args.get("X-Amz-Security-Token", request.headers.get("X-Amz-Security-Token"))
        if not scope:
            raise S3Error(403, "AccessDenied", "Access Denied")
        known = {each["access_key"]: each for each in settings["credentials"]}
        credential = known.get(scope.partition("/")[0])
        if credential is None:
            raise S3Error(403, "InvalidAccessKeyId", "The AWS Access Key Id does not exist.")
        if (expiry := credential.get("expires_at")) is not None and expiry <= time.time():
            raise S3Error(403, "ExpiredToken", "The provided token has expired.")
        if credential.get("token") and credential["token"] != token:
            raise S3Error(400, "InvalidToken", "The provided token is malformed or invalid.")
    globs = settings["deny"]
    if settings["deny_list"] if folder else any(matches(each, bucket, key) for each in globs):
        raise S3Error(403, "AccessDenied", "Access Denied")
    if bucket in ("", ".", "..") or not os.path.isdir(f"{server.root}/{bucket}"):
        raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist")
