"""Lambda function that calls the sidecar over TCP. Handler: tcp.handler"""

import http.client
import json
import os


def handler(event, context):
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("MODEL_PORT", 2774)))
    connection.request("POST", "/predict", json.dumps({"features": event["features"]}))
    response = connection.getresponse()
    answer = json.load(response)
    connection.close()
    if response.status != 200:
        raise RuntimeError(answer["error"])
    return answer
