"""moto's server, with two differences of functions.

    moto_server.py PORT

They keep their LoggingConfig and SnapStart, which moto drops, and have no empty ImageConfig, which moto adds.
"""

import sys

from moto.awslambda.models import LambdaFunction
from moto.server import main

KEPT = ("LoggingConfig", "SnapStart")

create, update, configuration = LambdaFunction.__init__, LambdaFunction.update_configuration, LambdaFunction.get_configuration


def created(self, account_id, spec, *rest, **options):
    self.kept = {name: spec[name] for name in KEPT if name in spec}
    create(self, account_id, spec, *rest, **options)


def updated(self, changes):
    self.kept |= {name: changes[name] for name in KEPT if name in changes}
    return update(self, changes)


def configured(self, *arguments, **options):
    found = configuration(self, *arguments, **options) | self.kept
    if found.get("ImageConfigResponse") == {"ImageConfig": {"EntryPoint": [], "Command": []}}:
        del found["ImageConfigResponse"]
    return found


LambdaFunction.__init__, LambdaFunction.update_configuration, LambdaFunction.get_configuration = created, updated, configured

if __name__ == "__main__":
    main(["--host", "127.0.0.1", "--port", sys.argv[1]])
