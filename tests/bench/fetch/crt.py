"""Downloads one object from S3 into a file with AWS's C client, the reference of `make bench-fetch`.

`crt.py HOST:PORT BUCKET KEY FILE` prints one line of JSON as bench-fetcher does: bytes, seconds, cpu_seconds, idle_kb
and peak_kb. The last two are the resident memory before the download and at its peak. The client has its defaults for
this link. Its creation and the interpreter's start are not measured. Plain HTTP.
"""

import json
import os
import resource
import sys
import time

from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType, create_default_s3_signing_config

# Bandwidth of a function, 625 Mbit/s; with the default of 10 Gbit/s the client would open more connections.
LINK_GBPS = 0.625


def memory(name):
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    host, bucket, key, file = sys.argv[1:]
    loops = EventLoopGroup()
    bootstrap = ClientBootstrap(loops, DefaultHostResolver(loops))
    credentials = AwsCredentialsProvider.new_static(
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    )
    region = os.environ["AWS_REGION"]
    client = S3Client(
        bootstrap=bootstrap,
        region=region,
        signing_config=create_default_s3_signing_config(region=region, credential_provider=credentials),
        tls_mode=S3RequestTlsMode.DISABLED,
        throughput_target_gbps=LINK_GBPS,
    )
    idle = memory("VmRSS:")
    started, busy = time.monotonic(), cpu()
    request = HttpRequest("GET", f"/{bucket}/{key}", HttpHeaders([("host", host)]))
    transfer = client.make_request(type=S3RequestType.GET_OBJECT, request=request, recv_filepath=file)
    transfer.finished_future.result()
    took, busy = time.monotonic() - started, cpu() - busy
    print(
        json.dumps(
            {
                "bytes": os.path.getsize(file),
                "seconds": took,
                "cpu_seconds": busy,
                "idle_kb": idle,
                "peak_kb": memory("VmHWM:"),
            }
        )
    )


if __name__ == "__main__":
    main()
