"""Changes to the requests that Schemathesis generates."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    # Headers that nobody knows are to be ignored, and not refused as it would have it.
    return "x-schemathesis-unknown-property" not in case.headers
