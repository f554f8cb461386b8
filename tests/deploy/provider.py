"""Stand-in for a version of Terraform's AWS provider: its schema without behaviour.

    provider.py install MIRROR CONFIGURATION BINDINGS [PULUMI]
    provider.py serve SCHEMA

`install` puts a provider into the folder MIRROR, a filesystem mirror of Terraform. With it, `terraform validate` checks
a configuration against the types, blocks, arguments and attributes of that version, and `terraform test` runs with a
mocked provider. The schema has the types that the folder CONFIGURATION names. A type that the version does not have is
left out, and Terraform reports it.

BINDINGS is a wheel of CDK for Terraform, which is generated from the provider's own schema. It does not have
deprecations. Those are read from PULUMI, a wheel of pulumi-aws, which renames a few arguments and omits a few
deprecations.

`serve` is the provider that Terraform starts: version 5 of its plugin protocol. Needs `TF_DISABLE_PLUGIN_TLS=1`.
"""

import io
import json
import pathlib
import platform
import re
import shlex
import sys
import tarfile
import threading
import zipfile

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
SINGLE, LIST, SET = 1, 2, 3  # Schema.NestedBlock.NestingMode


def field(number, value):
    """Field of a message of protocol buffers: a string, bytes or a small number."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    value = value.encode() if isinstance(value, str) else value
    length, size = b"", len(value)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def arguments(text):
    """Type of each argument in the text of a `HclAttributes`, or None for a block."""
    found = {}
    pattern = r'^ +(\w+): \{\n +value: .*\n +isBlock: (\w+),\n +type: "(\w+)",\n +storageClassType: "(\w+)"'
    for name, block, kind, storage in re.findall(pattern, text, re.MULTILINE):
        element = re.sub("(List|Map)$", "", storage)
        element = {"boolean": "bool", "any": "dynamic"}.get(element, element)
        if block == "true":
            found[name] = None
        elif element in ("string", "number", "bool", "dynamic"):
            found[name] = element if kind == "simple" else [kind, element]
        else:
            found[name] = "dynamic"
    return found


def getter_type(text):
    """Type of a computed attribute by the expression that reads it."""
    element, collection = re.search(r"get(String|Number|Boolean|AnyMap|)(Map|List|)Attribute", text).groups()
    element = {"Number": "number", "Boolean": "bool", "AnyMap": "dynamic"}.get(element, "string")
    if collection == "Map":
        return ["map", element]
    if collection == "List":
        return ["set" if "tolist" in text else "list", element]
    return element


class Bindings:
    """Generated classes of one resource or data source."""

    def __init__(self, text, deprecated):
        self.classes = dict(re.findall(r"^class (\w+) extends .*?\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))
        functions = re.findall(r"^function (\w+)ToHclTerraform\(.*?\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
        self.functions = dict(functions)
        self.deprecated = deprecated

    def block(self, name):
        """Message Schema.Block of a class."""
        body = self.classes[name]
        inner = name.removesuffix("OutputReference")
        known = arguments(self.functions.get(inner[0].lower() + inner[1:], body))
        message = b""
        for camel, text in re.findall(r"^    get (\w+)\(\) \{\n(.*?)^    \}", body, re.MULTILINE | re.DOTALL):
            optional = f"    reset{camel[0].upper()}{camel[1:]}(" in body
            nested = re.search(rf'\b_{camel} = new (\w+)\(this, "(\w+)"(, true)?', body)
            if nested:
                reference, snake, is_set = nested.groups()
                if snake in known and known[snake] is None:
                    message += field(3, self.nested(reference, snake, bool(is_set), optional))
                    continue
                kind = known.get(snake, "dynamic")
            elif attribute := re.search(r"Attribute\('(\w+)'\)", text):
                snake = attribute[1]
                kind = known.get(snake) or getter_type(text)
            else:
                continue
            argument = snake in known
            attribute = field(1, snake) + field(2, json.dumps(kind))
            attribute += field(4, argument and not optional) + field(5, argument and optional)
            # Computed. An optional argument may be so as well, and the bindings don't say it.
            attribute += field(6, not argument or optional) + field(9, snake in self.deprecated)
            message += field(2, attribute)
        return message

    def nested(self, reference, snake, is_set, optional):
        """Message Schema.NestedBlock."""
        if reference.endswith("List"):
            reference = reference.removesuffix("List") + "OutputReference"
            nesting, most = SET if is_set else LIST, 0
        elif re.search(r"super\(\w+, \w+, (false|true), 0\)", self.classes[reference]):
            nesting, most = LIST, 1
        else:
            nesting, most = SINGLE, 0
        least = 0 if optional or nesting == SINGLE else 1
        message = field(1, snake) + field(2, self.block(reference)) + field(3, nesting)
        return message + field(4, least) + field(5, most)


def deprecations(wheel, kind):
    """Names of deprecated arguments and attributes of a type, at any depth."""
    service, _, name = kind.removeprefix("data.").removeprefix("aws_").partition("_")
    prefix = "get_" if kind.startswith("data.") else ""
    folder = f"pulumi_aws/{'lambda_' if service == 'lambda' else service}"
    with zipfile.ZipFile(wheel) as archive:
        if name:
            text = archive.read(f"{folder}/{prefix}{name}.py").decode()
            owner = prefix.title().rstrip("_") + name.title().replace("_", "")
            inputs = archive.read(f"{folder}/_inputs.py").decode()
            nested = re.findall(rf"^class {owner}\w*Args:\n(.*?)(?=^class |\Z)", inputs, re.MULTILINE | re.DOTALL)
            text = "\n".join([text, *nested])
        else:
            text = archive.read(f"pulumi_aws/{prefix}{service}.py").decode()
    return set(re.findall(r'@_utilities\.deprecated\(""".*?"""\)\n +def (\w+)\(', text, re.DOTALL))


def sources(wheel, types):
    """Source of the generated classes of each type, by its name."""
    paths = {f"package/lib/{re.sub('[._]', '-', kind.removeprefix('aws_'))}/index.js": kind for kind in types}
    with zipfile.ZipFile(wheel) as archive:
        (packed,) = (name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(archive.read(packed))) as package:
            return {paths[one.name]: package.extractfile(one).read().decode() for one in package if one.name in paths}


def used_types(folder):
    """Types of the configurations in a folder: `aws_...` and `data.aws_...`."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.tf"))
    found = re.findall(r'^(resource|data) "(aws_\w+)"', text, re.MULTILINE)
    return {name if block == "resource" else f"data.{name}" for block, name in found}


def install(mirror, configuration, bindings, pulumi=None):
    # The provider has no arguments of its own. Terraform may cache the schema.
    response = field(1, field(2, b"")) + field(6, field(2, 1))
    versions = set()
    for kind, text in sources(bindings, used_types(pathlib.Path(configuration))).items():
        versions.update(re.findall(r"providerVersion: '([\d.]+)'", text))
        (name,) = re.findall(r"^class (\w+) extends cdkt\w\.Terraform(?:Resource|DataSource) ", text, re.MULTILINE)
        schema = field(2, Bindings(text, deprecations(pulumi, kind) if pulumi else set()).block(name))
        response += field(3 if kind.startswith("data.") else 2, field(1, kind.removeprefix("data.")) + field(2, schema))
    (version,) = versions
    folder = pathlib.Path(mirror, "registry.terraform.io/hashicorp/aws", version, f"linux_{ARCHITECTURE}").resolve()
    folder.mkdir(parents=True)
    folder.joinpath("schema").write_bytes(response)
    program = folder / f"terraform-provider-aws_v{version}"
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), "serve", str(folder / "schema")]
    program.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    program.chmod(0o755)


def serve(path):
    from concurrent import futures

    import grpc

    schema = pathlib.Path(path).read_bytes()
    ended = threading.Event()

    class Provider(grpc.GenericRpcHandler):
        def service(self, call):
            if call.method.endswith("/Shutdown"):
                ended.set()
            answer = schema if call.method.endswith("/GetSchema") else b""  # no diagnostics
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)

    server = grpc.server(futures.ThreadPoolExecutor(4), [Provider()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"1|5|tcp|127.0.0.1:{port}|grpc", flush=True)
    ended.wait()
    server.stop(1).wait()


if __name__ == "__main__":
    {"install": install, "serve": serve}[sys.argv[1]](*sys.argv[2:])
