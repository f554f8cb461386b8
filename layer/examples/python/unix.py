"""Lambda function that calls the sidecar over its Unix socket. Handler: unix.handler"""

import http.client
import json
import socket


def handler(event, context):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/tmp/model-sidecar.sock")
    connection.request("POST", "/predict", json.dumps({"features": event["features"]}))
    response = connection.getresponse()
    answer = json.load(response)
    connection.close()
    if response.status != 200:
        raise RuntimeError(answer["error"])
    return answer
