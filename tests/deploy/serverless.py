"""Packages layer/examples/python/serverless.yml with osls, and checks the template that it would deploy.

    serverless.py

The layer is a file of one byte: only its name matters here. AWS is an emulator.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import run

OSLS = run.ROOT / "target/deploy-npm/node_modules/.bin/osls"


def main():
    with tempfile.TemporaryDirectory(prefix="serverless-test-") as scratch, contextlib.ExitStack() as stack:
        folder = pathlib.Path(scratch)
        endpoint = stack.enter_context(run.emulator(folder))
        example = folder / "layer/examples/python"
        shutil.copytree(run.ROOT / "layer/examples/python", example)
        layer = folder / "dist/release/model-sidecar-x86_64.zip"
        layer.parent.mkdir(parents=True)
        layer.write_bytes(b"0")
        environment = os.environ | {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "HOME": scratch,
            "SLS_NOTIFICATIONS_MODE": "off",
            "SLS_TELEMETRY_DISABLED": "1",
        }
        done = subprocess.run([OSLS, "package"], cwd=example, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"osls package failed:\n{done.stdout}{done.stderr}")
        template = json.loads((example / ".serverless/cloudformation-template-update-stack.json").read_text())
        resources = template["Resources"]
        function = resources["PredictLambdaFunction"]["Properties"]
        run.check("the function has the layer", function["Layers"], [{"Ref": "SidecarLambdaLayer"}])
        run.check("its type", resources["SidecarLambdaLayer"]["Type"], "AWS::Lambda::LayerVersion")
        variables = function["Environment"]["Variables"]
        run.check("the function has the model", variables, {"MODEL_URI": "s3://my-models/fraud/model.onnx"})
        url = resources["PredictLambdaFunctionUrl"]["Properties"]
        run.check("the URL is called with IAM", url["AuthType"], "AWS_IAM")
        role = json.dumps(resources["IamRoleLambdaExecution"])
        run.check("the role may read the model", "arn:aws:s3:::my-models/fraud/*" in role, True)


if __name__ == "__main__":
    main()
