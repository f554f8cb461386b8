"""moto's server, with functions that keep their LoggingConfig, which moto drops.

    moto_server.py PORT
"""

import sys

from moto.awslambda.models import LambdaFunction
from moto.server import main

create, update, configuration = LambdaFunction.__init__, LambdaFunction.update_configuration, LambdaFunction.get_configuration


def created(self, account_id, spec, *rest, **options):
    self.logging = spec.get("LoggingConfig", {})
    create(self, account_id, spec, *rest, **options)


def updated(self, changes):
    self.logging = changes.get("LoggingConfig", self.logging)
    return update(self, changes)


def configured(self, *arguments, **options):
    return configuration(self, *arguments, **options) | {"LoggingConfig": self.logging}


LambdaFunction.__init__, LambdaFunction.update_configuration, LambdaFunction.get_configuration = created, updated, configured

if __name__ == "__main__":
    main(["--host", "127.0.0.1", "--port", sys.argv[1]])
