"""Computes the tables of docs/cost.md.

    python3 layer/build/cost.py [--check]

Measured times are the tables of docs/performance.md, prices are layer/deploy/prices.json, and all else is in ASSUMED,
which the page lists. Blocks between `<!-- cost: NAME -->` and `<!-- end -->` are replaced. With --check, nothing is
written; exits with 1 if a block differs.
"""

import json
import math
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/cost.md"
PERFORMANCE = ROOT / "docs/performance.md"
METRICS = ROOT / "docs/metrics.md"
PRICES = json.loads((ROOT / "layer/deploy/prices.json").read_text(encoding="utf-8"))
ALARMS = json.loads((ROOT / "layer/deploy/alarms.json").read_text(encoding="utf-8"))

ASSUMED = {
    "cold": (0.01, "share of cold starts", "1 %"),
    "provisioned": (0.5, "mean utilization of provisioned environments", "50 %"),
    "versions": (1, "versions of the function that SnapStart keeps", "1"),
    "servers": (2, "minimum number of servers, for availability", "2"),
    "busy": ((0.2, 0.5), "mean utilization of servers, with uneven and with even traffic", "20 % and 50 %"),
    "lcu": (1, "capacity units of the load balancer", "1"),
}
MEMORY = (256, 512, 1024, 1769, 3538)
# Memory of one vCPU in MB. Source: AWS Lambda developer guide, "Configure Lambda function memory".
VCPU = 1769
MONTH = 730 * 3600
TRAFFIC = (1, 10, 100)

LAMBDA = PRICES["architectures"]["x86_64"]
SNAPSTART = PRICES["snapstart"]


def rows(opening, heading):
    """Cells of the rows of the table with this heading, in the section of docs/performance.md with this opening."""
    text = PERFORMANCE.read_text(encoding="utf-8")
    section = text[text.index(f"\n## {opening}\n") :]
    lines = section[section.index(heading) :].splitlines()[2:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def number(text):
    return float(re.match(r"[\d,.]+", text)[0].replace(",", ""))


class Model:
    """Times in milliseconds, memory in MB."""

    def __init__(self, name, run, memory):
        self.name, self.run, self.memory = name, run, memory
        self.init = self.optimized = None


def measured():
    """Models with their times, and the time of a request above the run."""
    models = {}
    for name, run, memory in rows("Inference", "| model | one run |"):
        models[name] = Model(name, number(run), number(memory))
    for name, setting, sidecar, optimized, *_ in rows("Cold start", "| model | setting |"):
        if setting == "link":
            models[name].init = number(sidecar)
            models[name].optimized = number(optimized) if optimized else None
    through = "the same through handler and Runtime API, above a handler that does nothing"
    (path,) = (number(result) for measure, result, _ in rows("Inference", "| measure | result |") if measure == through)
    return list(models.values()), path / 1000


def slower(memory):
    """Factor of a time on one vCPU with this memory size. More than one vCPU is not counted as a gain."""
    return max(1.0, VCPU / memory)


def billed(milliseconds):
    """Lambda rounds durations up to the next millisecond."""
    return math.ceil(round(milliseconds, 6))


def duration(model, path, memory=VCPU):
    return billed((model.run + path) * slower(memory))


def gb(memory):
    return memory / 1024


def on_demand(milliseconds, memory=VCPU):
    """Dollars of a million requests without cold starts."""
    return PRICES["million_requests"] + milliseconds * 1000 * gb(memory) * LAMBDA["gb_second"]


def cold_starts(model, memory=VCPU, optimized=False):
    """Dollars of a thousand cold starts: Init is billed."""
    init = model.optimized if optimized else model.init
    return billed(init) * gb(memory) * LAMBDA["gb_second"]


def restores(memory=VCPU):
    """Dollars of a thousand restores of a snapshot."""
    return 1000 * gb(memory) * SNAPSTART["restore_gb"]


def month_of_requests(model, path, millions, way, memory=VCPU):
    """Dollars a month."""
    milliseconds = duration(model, path, memory)
    thousands_cold = millions * 1000 * ASSUMED["cold"][0]
    if way == "on demand":
        return millions * on_demand(milliseconds, memory) + thousands_cold * cold_starts(model, memory)
    if way == "SnapStart":
        cache = gb(memory) * MONTH * SNAPSTART["cache_gb_second"] * ASSUMED["versions"][0]
        return millions * on_demand(milliseconds, memory) + thousands_cold * restores(memory) + cache
    seconds = millions * 1000 * milliseconds
    environments = max(1, math.ceil(seconds / MONTH / ASSUMED["provisioned"][0]))
    kept = environments * MONTH * gb(memory) * LAMBDA["provisioned_gb_second"]
    used = seconds * gb(memory) * LAMBDA["provisioned_duration_gb_second"]
    return millions * PRICES["million_requests"] + kept + used


def servers():
    """Name, vCPU and dollars a month of a server, and dollars a month of the load balancer or endpoint."""
    hours = MONTH / 3600
    sagemaker, fargate, balancer = PRICES["sagemaker"], PRICES["fargate"], PRICES["load_balancer"]
    task = fargate["vcpu_hour"] * fargate["vcpu"] + fargate["gb_hour"] * fargate["gb"]
    front = balancer["hour"] + balancer["lcu_hour"] * ASSUMED["lcu"][0]
    return (
        (f"SageMaker, {sagemaker['instance']}", sagemaker["vcpu"], sagemaker["hour"] * hours, 0.0),
        (f"ECS on Fargate, {fargate['vcpu']} vCPU and {fargate['gb']} GB", fargate["vcpu"], task * hours, front * hours),
    )


def break_even(slope, milliseconds, vcpu, server, front, busy):
    """Least millions of requests a month from which the servers cost less; None if they never do.

    `slope` is in dollars per million requests on Lambda. The number of servers grows with the traffic.
    """
    capacity = vcpu * busy * MONTH * 1000 / milliseconds / 1e6
    least = ASSUMED["servers"][0]
    for count in range(least, 100_000):
        needed = (count * server + front) / slope
        if needed <= count * capacity:
            return max(needed, (count - 1) * capacity if count > least else 0.0)
    return None


def monitoring():
    """Name and dollars a month of each part of the monitoring, and of all."""
    prices = PRICES["cloudwatch"]
    # An alarm is charged for each metric that it evaluates.
    evaluated = sum(sum("MetricStat" in query for query in alarm.get("Metrics", [])) or 1 for alarm in ALARMS.values())
    default = len(re.findall(r"^\| `\w+` \| \w+ \| default \|", METRICS.read_text(encoding="utf-8"), re.MULTILINE))
    parts = (
        (f"{len(ALARMS)} alarms, which evaluate {evaluated} metrics", evaluated * prices["alarm_metric_month"]),
        ("dashboard", prices["dashboard_month"]),
        (f"metrics of the default set, at most {default}", default * prices["metric_month"]),
    )
    return (*parts, ("all", sum(price for _, price in parts)))


def dollars(value):
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.3f}"


def percent(share):
    return f"{share * 100:.0f} %"


def amount(millions):
    """Millions with two digits, and the mean rate."""
    if millions is None:
        return "never"
    digits = 1 - math.floor(math.log10(millions))
    return f"{round(millions, digits):,.{max(digits, 0)}f} M ({millions * 1e6 / MONTH:,.0f}/s)"


def table(heading, lines):
    head = "| " + " | ".join(heading) + " |"
    return "\n".join([head, "|" + "---|" * len(heading), *("| " + " | ".join(line) + " |" for line in lines)])


def blocks():
    models, path = measured()
    made = {}
    made["assumed"] = table(("assumed", "value"), [(meaning, shown) for _, meaning, shown in ASSUMED.values()])
    made["on demand"] = table(
        ("model", "run, ms", *(f"{size:,} MB" for size in MEMORY)),
        [
            (model.name, f"{model.run:g}")
            + tuple(
                f"{dollars(on_demand(duration(model, path, size), size))} ({duration(model, path, size)} ms)"
                if model.memory <= size
                else ""
                for size in MEMORY
            )
            for model in models
        ],
    )
    made["cold starts"] = table(
        ("model", "Init, ms", "1,000 cold starts", "the same, optimized", "1,000 restores of SnapStart"),
        [
            (
                model.name,
                f"{model.init:,.0f}",
                dollars(cold_starts(model)),
                dollars(cold_starts(model, optimized=True)) if model.optimized else "",
                dollars(restores()),
            )
            for model in models
        ],
    )
    ways = ("on demand", "SnapStart", "provisioned")
    made["ways"] = table(
        ("model", "requests a month", *ways),
        [
            (model.name, f"{millions} M", *(dollars(month_of_requests(model, path, millions, way) / millions) for way in ways))
            for model in models
            for millions in TRAFFIC
        ],
    )
    share = LAMBDA["provisioned_gb_second"] / (LAMBDA["gb_second"] - LAMBDA["provisioned_duration_gb_second"])
    kept = MONTH * gb(VCPU) * LAMBDA["provisioned_gb_second"]
    cache = MONTH * gb(VCPU) * SNAPSTART["cache_gb_second"]
    made["rules"] = "\n".join(
        (
            f"- A provisioned environment of {VCPU:,} MB costs {dollars(kept)} a month. It costs less than on-demand",
            f"  environments if it is busy for more than {percent(share)} of the time.",
            f"- A snapshot of {VCPU:,} MB costs {dollars(cache)} a month for each version, and a restore as much as",
            f"  {restores() / gb(VCPU) / LAMBDA['gb_second'] / 1000:.1f} s of Init.",
        )
    )
    shares = ASSUMED["busy"][0]
    lines = []
    for model in models:
        slope = month_of_requests(model, path, 1, "on demand")
        cells = [model.name, dollars(slope)]
        for _, vcpu, server, front in servers():
            cells += [amount(break_even(slope, model.run + path, vcpu, server, front, busy)) for busy in shares]
        lines.append(tuple(cells))
    names = [f"{name}, {percent(busy)} busy" for name in ("SageMaker", "ECS") for busy in shares]
    made["servers"] = table(("model", "Lambda, a million", *names), lines)
    made["server prices"] = table(
        ("servers", "dollars a month of one", "of the load balancer", "of the least deployment"),
        [
            (name, dollars(server), dollars(front) if front else "", dollars(ASSUMED["servers"][0] * server + front))
            for name, _, server, front in servers()
        ],
    )
    made["monitoring"] = table(("part", "dollars a month"), [(part, dollars(price)) for part, price in monitoring()])
    return made


def main():
    page = PAGE.read_text(encoding="utf-8")
    made = blocks()
    found = re.findall(r"<!-- cost: (.*?) -->", page)
    if sorted(found) != sorted(made):
        sys.exit(f"cannot fill docs/cost.md: it has the blocks {found}; {list(made)} are computed")
    filled = page
    for name, text in made.items():
        pattern = rf"(<!-- cost: {re.escape(name)} -->\n\n).*?(\n*<!-- end -->)"
        filled = re.sub(pattern, lambda block: f"{block[1]}{text}\n\n<!-- end -->", filled, count=1, flags=re.DOTALL)
    if "--check" in sys.argv[1:]:
        if filled != page:
            sys.exit("docs/cost.md is not what its inputs give: run python3 layer/build/cost.py")
    else:
        PAGE.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
