"""ministack with `AUTH=true`, and rules of AWS that it lacks.

    AUTH=true hypercorn authorization:app

ministack checks signatures and session tokens, and evaluates policies with their resources and conditions. AWS's
documentation has these rules as well:

- Calls in CBOR, the protocol of CloudWatch's SDK, are authorized as any other.
- `cloudwatch:namespace` is a condition key of `PutMetricData`.
- The resource of `CreateLogStream` and `PutLogEvents` is the stream.
- Reading an object that is encrypted with a KMS key needs `kms:Decrypt` on the key.
- A missing object is 403 for a caller without `s3:ListBucket`. It is assumed that `s3:prefix` has no value then.
"""

import json
import uuid

import cbor2
from emulator import app  # noqa: F401, for hypercorn
from ministack.app import SERVICE_HANDLERS
from ministack.core import iam_actions, iam_evaluator
from ministack.core.router import extract_access_key_id, extract_region

s3 = SERVICE_HANDLERS["s3"]
actions, resources, conditions = iam_actions.extract_iam_action, iam_actions.extract_resource_arn, iam_actions.request_tag_context


def action_of(service, method, path, headers, body, parameters):
    if service == "monitoring" and "/operation/" in path:
        return f"cloudwatch:{path.rpartition('/')[2]}"
    return actions(service, method, path, headers, body, parameters)


def resource_of(service, method, path, headers, body, *rest):
    if path.endswith("/operation/PutMetricData"):
        return "*"
    resource = resources(service, method, path, headers, body, *rest)
    if headers.get("x-amz-target", "").endswith((".CreateLogStream", ".PutLogEvents")):
        return f"{resource}:log-stream:{json.loads(body)['logStreamName']}"
    return resource


def conditions_of(service, action, body, parameters):
    found = conditions(service, action, body, parameters)
    if action == "cloudwatch:PutMetricData":
        decode = json.loads if body.startswith(b"{") else cbor2.loads
        found["cloudwatch:namespace"] = decode(body)["Namespace"]
    return found


async def authorized(method, path, headers, body, query):
    """Response of S3, or the denial of a permission that the response needs."""
    status, given, content = await s3(method, path, headers, body, query)
    bucket, _, key = path.lstrip("/").partition("/")
    kms = {name.lower(): value for name, value in given.items()}.get("x-amz-server-side-encryption-aws-kms-key-id")
    needed = None
    if method == "GET" and key and status == 404:
        needed = "s3", "s3:ListBucket", f"arn:aws:s3:::{bucket}"
    elif method == "GET" and kms and status in (200, 206):
        needed = "kms", "kms:Decrypt", kms
    if needed:
        service, action, arn = needed
        denied = iam_evaluator.enforce(extract_access_key_id(headers, query), action, service, extract_region(headers), arn)
        if denied:
            return iam_actions.access_denied_response(
                "s3", action, denied.principal_arn, str(uuid.uuid4()), headers=headers, resource_arn=arn
            )
    return status, given, content


iam_actions.extract_iam_action, iam_actions.extract_resource_arn = action_of, resource_of
iam_actions.request_tag_context = conditions_of
SERVICE_HANDLERS["s3"] = authorized
