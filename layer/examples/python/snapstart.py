"""Lambda function with SnapStart, which reports each restore to the sidecar. Handler: snapstart.handler"""

import http.client
import json
import os

from snapshot_restore_py import register_after_restore


def call(path, body):
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("MODEL_PORT", 2774)))
    connection.request("POST", path, body)
    response = connection.getresponse()
    answer = json.load(response)
    if response.status != 200:
        raise RuntimeError(answer["error"])
    return answer


register_after_restore(call, "/lambda/restore", None)


def handler(event, context):
    return call("/predict", json.dumps({"features": event["features"]}))
