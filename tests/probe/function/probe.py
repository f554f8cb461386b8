"""Function of the probe. Handler: probe.handler. An event names what it does:

- {"do": "read"}: responds with the facts and the events of both processes;
- {"do": "crash"}: ends its process;
- {"do": "range", "bucket": …, "key": …}: responds with the headers of a ranged GET with checksums.
"""

import datetime
import hashlib
import hmac
import http.client
import os
import sys
import time
import urllib.parse

sys.path.insert(0, "/opt/python")
import probe_facts

try:
    import snapshot_restore_py
except ImportError:
    # An emulator without AWS's runtime for Python.
    snapshot_restore_py = None

probe_facts.note("function", "import", facts=probe_facts.facts())
if snapshot_restore_py is not None:
    snapshot_restore_py.register_before_snapshot(probe_facts.note, "function", "before snapshot")
    snapshot_restore_py.register_after_restore(probe_facts.note, "function", "after restore")


def handler(event, context):
    probe_facts.note("function", "invoke")
    match event["do"]:
        case "crash":
            os._exit(1)
        case "range":
            return ranged(event["bucket"], event["key"])
    invocations = sum(event["event"] == "invoke" for event in probe_facts.noted("function"))
    end = time.monotonic() + 1
    # The extension records the invocation in parallel.
    while sum(event["event"] == "INVOKE" for event in probe_facts.noted("extension")) < invocations:
        if time.monotonic() > end:
            break
        time.sleep(0.005)
    return {process: probe_facts.noted(process) for process in ("function", "extension")}


def ranged(bucket, key):
    """Status and headers of a GET of the object's first bytes, signed with the role's keys."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3")
    region = os.environ["AWS_REGION"]
    url = urllib.parse.urlsplit(endpoint or f"https://s3.{region}.amazonaws.com")
    path = f"/{bucket}/{key}"
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    empty = hashlib.sha256(b"").hexdigest()
    headers = {
        "host": url.netloc,
        "range": "bytes=0-9",
        "x-amz-checksum-mode": "ENABLED",
        "x-amz-content-sha256": empty,
        "x-amz-date": now,
    }
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    canonical = hashlib.sha256(f"GET\n{path}\n\n{lines}\n{names}\n{empty}".encode()).hexdigest()
    secret = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope.split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.digest(secret, f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{canonical}".encode(), "sha256").hex()
    credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    )
    secure = url.scheme == "https"
    connection = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(url.netloc)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    checksums = sorted(name.lower() for name, _ in response.getheaders() if "checksum" in name.lower())
    return {"status": response.status, "checksums": checksums}
