"""A handler for the tests of `lab serve`, written as for Lambda: it knows nothing of the lab."""

import os
import time


def main(event, context):
    """Answer with the event, what the context says, the time and a variable; or fail as asked."""
    if "error" in event:
        raise ValueError(event["error"])
    print("handling", event.get("name"))
    return {
        "event": event,
        "request_id": context.aws_request_id,
        "function_name": context.function_name,
        "memory_mb": context.memory_limit_in_mb,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "time": time.time(),
        "variable": os.environ.get(event.get("variable", "")),
    }
