"""Runs the probe in the lab, and its calls of AWS on an emulator.

1. The lab's record is complete, and a second one is the same.
2. On the emulator, which starts no extensions, the probe fails after it has created everything, and removes it.
"""

import pathlib
import sys
import tempfile

import boto3
import probe

sys.path.insert(0, str(probe.ROOT / "tests/deploy"))
import run as deploy

EXPECTED = {
    "emf: a line of an extension becomes a metric": True,
    "freeze: the clock monotonic of the extension": "runs",
    "reset: /tmp is kept": True,
    "reset: reasons of SHUTDOWN after a crash": ["failure"],
    "snapstart: an extension has credentials": True,
    "snapstart: credentials in": ["AWS_CONTAINER_CREDENTIALS_FULL_URI"],
    "snapstart: events of the extension": ["register", "INVOKE"],
    "snapstart: events of the function": ["import", "before snapshot", "after restore", "invoke"],
    "snapstart: the credentials change": True,
    "snapstart: the function is one process": True,
}


def there(account):
    """Number of resources in the account, by service."""
    return {
        "functions": len(account.client("lambda").list_functions()["Functions"]),
        "layers": len(account.client("lambda").list_layers()["Layers"]),
        "roles": len(account.client("iam").list_roles()["Roles"]),
        "buckets": len(account.client("s3").list_buckets()["Buckets"]),
        "log groups": len(account.client("logs").describe_log_groups()["logGroups"]),
    }


def check_lab():
    facts = probe.lab()
    deploy.check("the lab's record", {name: facts.get(name) for name in EXPECTED}, EXPECTED)
    deploy.check("the differences of another record of the lab", probe.differences(probe.lab(), facts), [])
    changed = facts | {"function: variables": [*facts["function: variables"], "Z"]}
    found = probe.differences(changed, facts)
    deploy.check("a difference", found, ['function: variables\n  AWS ["Z"]\n  lab []'])


def check_emulator():
    with tempfile.TemporaryDirectory(prefix="probe") as folder, deploy.emulator(pathlib.Path(folder)) as endpoint:
        account = probe.Aws(boto3.Session("test", "test", region_name="eu-central-1"), endpoint)
        create, held = account.create, {}

        def observed():
            create()
            held.update(there(account))

        account.create = observed
        try:
            probe.probe(account)
        except probe.Failed as error:
            deploy.check("the emulator's failure", str(error), "the extension has recorded no event")
        else:
            sys.exit("the emulator has started an extension: record it")
        counts = {name: held.get(name) for name in ("functions", "layers", "roles", "buckets")}
        deploy.check("what was created", counts, {"functions": 2, "layers": 1, "roles": 1, "buckets": 1})
        deploy.check("what is left", set(there(account).values()), {0})


check_emulator()
check_lab()
