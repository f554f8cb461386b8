"""Runs the steps of layer/examples/pipeline/model-release.yml with the shell, as GitHub's runner does.

    pipeline.py

`modelctl` is the built one, `aws` is AWS's command line, and S3 and CloudWatch are an emulator. Actions and the
installation of modelctl are skipped: their effects are files and programs that are here. A release is promoted; a
release with an alarm during the canary ends the canary; one with an alarm after the promotion is rolled back. Without
alarms of the given prefix nothing is published.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

import run

WORKFLOW = run.ROOT / "layer/examples/pipeline/model-release.yml"
BUCKET = "models"
MANIFEST = f"s3://{BUCKET}/wine/manifest.json"
ALARM = "wine-model-error-rate"
SKIPPED = {"Install modelctl"}


class Runner:
    """The part of GitHub's runner that the workflow needs."""

    def __init__(self, folder, environment, inputs):
        self.folder = folder
        self.environment = environment
        self.inputs = inputs
        self.outcomes = {}
        self.outputs = {}
        self.has_failed = False

    def expression(self, text):
        """Value of the expressions in a text."""

        def value(found):
            kind, name, *rest = found[1].split(".")
            return str(self.inputs[name] if kind == "inputs" else self.outputs[name][rest[-1]])

        return re.sub(r"\$\{\{ ([\w.-]+) \}\}", value, str(text))

    def condition(self, text):
        if text is None:
            return not self.has_failed
        text = re.sub(r"steps\.(\w+)\.outcome", lambda found: repr(self.outcomes.get(found[1], "skipped")), text)
        text = text.replace("failure()", str(self.has_failed)).replace("cancelled()", "False")
        return eval(text.replace("&&", " and ").replace("||", " or "), {"__builtins__": {}})

    def job(self, job, after=()):
        """Runs the steps of a job; `after` has functions by the name of the step that they follow."""
        variables = {name: self.expression(value) for name, value in job.get("env", {}).items()}
        for step in job["steps"]:
            name = step.get("name")
            if "run" not in step or name in SKIPPED or not self.condition(step.get("if")):
                continue
            more = {key: self.expression(value) for key, value in step.get("env", {}).items()}
            output = self.folder / "output"
            output.write_text("")
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.folder,
                env=self.environment | variables | more | {"GITHUB_OUTPUT": str(output), "GITHUB_SHA": "1a2b3c4"},
                capture_output=True,
                text=True,
                check=False,
            )
            print(f"  {name}: exit {done.returncode}", flush=True)
            if done.returncode != 0:
                self.has_failed = True
                print("".join(f"    {line}\n" for line in (done.stdout + done.stderr).splitlines()), end="", flush=True)
            self.outcomes[step.get("id", name)] = "failure" if done.returncode else "success"
            self.outputs[step.get("id", name)] = dict(line.split("=", 1) for line in output.read_text().splitlines())
            dict(after).get(name, lambda: None)()
        return not self.has_failed


def main():
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    run.check("steps run in a shell with pipefail", workflow["defaults"]["run"]["shell"], "bash")
    inputs = {name: given.get("default") for name, given in workflow[True]["workflow_call"]["inputs"].items()}
    inputs |= {"model": "model.onnx", "data": "rows.json", "manifest": MANIFEST, "alarms": "wine-model-", "watch-minutes": 0}
    with tempfile.TemporaryDirectory(prefix="pipeline-test-") as scratch, contextlib.ExitStack() as stack:
        folder = pathlib.Path(scratch)
        endpoint = stack.enter_context(run.emulator(folder))
        library = next((run.ROOT / "target/onnxruntime").glob("*/libonnxruntime.so.*"))
        environment = {
            "PATH": f"{run.ROOT}/target/debug:{run.EMULATOR}:{os.environ['PATH']}",
            "HOME": scratch,
            "ORT_DYLIB_PATH": str(library),
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": run.REGION,
            "AWS_DEFAULT_REGION": run.REGION,
        }
        client = run.clients(endpoint)
        s3, cloudwatch = client("s3"), client("cloudwatch")
        run.make_bucket(client, BUCKET)
        cloudwatch.put_metric_alarm(
            AlarmName=ALARM, MetricName="InferenceErrors", Namespace="ModelSidecar", Statistic="Sum", Period=300,
            EvaluationPeriods=3, Threshold=1, ComparisonOperator="GreaterThanThreshold",
        )
        wine = json.loads((run.ROOT / "tests/models/wine.json").read_text())
        (folder / "rows.json").write_text(json.dumps(wine["rows"][:100]))

        def manifest():
            return json.load(s3.get_object(Bucket=BUCKET, Key="wine/manifest.json")["Body"])

        def alarm(state):
            cloudwatch.set_alarm_state(AlarmName=ALARM, StateValue=state, StateReason="test")

        def release(model, changed=(), **after):
            """Runs both jobs with these inputs changed, and returns whether the release succeeded."""
            alarm("OK")
            shutil.copy(run.ROOT / f"tests/models/{model}", folder / "model.onnx")
            runner = Runner(folder, environment, inputs | dict(changed))
            checked = runner.job(workflow["jobs"]["check"])
            run.check(f"{model} is checked", checked, True)
            return runner.job(workflow["jobs"]["release"], after)

        first = [f"{run.ROOT}/target/debug/modelctl", "publish", run.ROOT / "tests/models/wine-v1.onnx", MANIFEST]
        subprocess.run(first, env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)

        before = manifest()
        released = release("wine-v2.onnx", {"alarms": "wine-modell-"})
        run.check("a prefix without alarms fails the release", released, False)
        run.check("nothing is published", manifest(), before)

        released = release("wine-v2.onnx", **{"Publish the canary": lambda: alarm("ALARM")})
        run.check("an alarm during the canary fails the release", released, False)
        run.check("the canary has ended", (manifest()["current"], manifest().get("canary")), ("1", None))

        released = release("wine-v2.onnx", **{"Promote the version": lambda: alarm("ALARM")})
        run.check("an alarm after the promotion fails the release", released, False)
        run.check("the version is rolled back", (manifest()["current"], manifest().get("canary")), ("1", None))

        run.check("a release without an alarm succeeds", release("wine-v2.onnx"), True)
        run.check("the version is current", (manifest()["current"], manifest().get("canary")), ("2", None))
        run.check("it has golden examples", bool(manifest()["versions"]["2"].get("golden")), True)
        run.check("and its commit", manifest()["versions"]["2"]["meta"], {"commit": "1a2b3c4"})


if __name__ == "__main__":
    main()
