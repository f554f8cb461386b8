"""ministack, with two differences in its CloudFormation.

    hypercorn emulator:app

An alarm on metric math, which ministack rejects, is stored with its queries. Their structure is checked as CloudWatch's
reference of PutMetricAlarm says; the emulator does not evaluate them. A stack's template has S3's URL of its nested
template, as on AWS: `sam delete` reads no other.
"""

import os
import re

from ministack.app import app  # noqa: F401, for hypercorn
from ministack.services.cloudformation import handlers, provisioners

plain = provisioners._cw_metric_alarm_record


def record(name, properties):
    queries = properties.get("Metrics")
    if not queries:
        return plain(name, properties)
    for other in ("MetricName", "Namespace", "Period", "Statistic", "ExtendedStatistic", "Dimensions"):
        if other in properties:
            raise ValueError(f"alarm {name}: Metrics and {other} exclude each other")
    ids = [query["Id"] for query in queries]
    if len(set(ids)) < len(ids) or not all(re.fullmatch(r"[a-z][A-Za-z0-9_]*", one) for one in ids):
        raise ValueError(f"alarm {name}: wrong or equal ids {ids}")
    if sum(query.get("ReturnData") is True for query in queries) != 1:
        raise ValueError(f"alarm {name}: one query returns data")
    for query in queries:
        if ("Expression" in query) == ("MetricStat" in query):
            raise ValueError(f"alarm {name}: {query['Id']} is an expression or a metric")
    metric = next(query["MetricStat"]["Metric"] for query in queries if "MetricStat" in query)
    names = {"MetricName": metric["MetricName"], "Namespace": metric["Namespace"]}
    rest = {key: value for key, value in properties.items() if key != "Metrics"}
    return plain(name, rest | names) | {"Metrics": queries}


provisioners._cw_metric_alarm_record = record


def get_template(params):
    status, headers, body = template(params)
    own = f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}/".encode()
    return status, headers, body.replace(own, b"https://s3.eu-central-1.amazonaws.com/")


template = handlers._ACTION_HANDLERS["GetTemplate"]
handlers._ACTION_HANDLERS["GetTemplate"] = get_template
