"""What the scenarios share: clients, zips, functions, and how they are chosen.

A scenario is a function whose name is given on the command line. It asserts;
whatever it raises fails the test that ran it.
"""

import base64
import io
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ROOT = os.environ["LAMU_TEST_ROOT"]
ROLE = "arn:aws:iam::000000000000:role/tests"
ACCOUNT = "000000000000"
REGION = "us-east-1"
# The interpreter the sandbox finds under /usr.
PYTHON = subprocess.run(
    ["/usr/bin/python3", "-c", "import sys; print('python3.%d' % sys.version_info[1])"],
    check=True, capture_output=True, text=True).stdout.strip()


def client(service="lambda", **more):
    config = Config(retries={"total_max_attempts": 1}, read_timeout=120, **more.pop("config", {}))
    return boto3.client(service, config=config, **more)


def pack(files):
    """A zip of {name: text or bytes}, everything executable."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o755 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


def zip_of(*trees, **files):
    """Trees are (path, prefix); files are name=(text)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for tree, prefix in trees:
            for path in sorted(pathlib.Path(tree).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    made.write(path, f"{prefix}{path.relative_to(tree)}")
        for name, text in files.items():
            info = zipfile.ZipInfo(name.replace("__", "."))
            info.external_attr = 0o755 << 16
            made.writestr(info, text)
    return out.getvalue()


def create(api, name, code, runtime=PYTHON, handler="app.handler", **more):
    """A function that is active. `code` is Python text, a zip, or a Code object."""
    if isinstance(code, str):
        code = pack({"app.py": code})
    if isinstance(code, bytes):
        code = {"ZipFile": code}
    made = api.create_function(
        FunctionName=name, Runtime=runtime, Handler=handler, Role=ROLE, Code=code, **more)
    settle(api, name)
    return made


def settle(api, name):
    api.get_waiter("function_active_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})
    api.get_waiter("function_updated_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})


def call(api, name, event=None, **more):
    """The answer, with its payload read as JSON, and its log tail as text."""
    answer = api.invoke(FunctionName=name, Payload=json.dumps(event or {}), **more)
    body = answer["Payload"].read()
    answer["Bytes"] = body
    answer["Json"] = json.loads(body) if body else None
    if "LogResult" in answer:
        answer["Log"] = base64.b64decode(answer["LogResult"]).decode(errors="replace")
    return answer


def run(api, name, event=None, **more):
    """What the function returned; it must not have failed."""
    answer = call(api, name, event, **more)
    assert "FunctionError" not in answer, answer["Bytes"]
    return answer["Json"]


def fail(api, name, event=None, **more):
    """The error the function ended with."""
    answer = call(api, name, event, **more)
    assert answer.get("FunctionError") == "Unhandled", (answer.get("FunctionError"), answer["Bytes"])
    assert answer["StatusCode"] == 200
    return answer["Json"]


class refused:
    """`with refused("ResourceNotFoundException", 404, "text"):`"""

    def __init__(self, code, status=None, text=""):
        self.code, self.status, self.text = code, status, text

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        assert kind is not None, f"{self.code} was expected, and nothing was refused"
        if not isinstance(error, ClientError):
            return False
        self.error = error.response["Error"]
        got = (self.error["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert self.error["Code"] == self.code, (self.code, error.response)
        assert self.status in (None, got[1]), (self.status, error.response)
        message = self.error["Message"] or error.response.get("message", "")
        assert self.text in message, (self.text, error.response)
        return True


def main(scenarios):
    name = sys.argv[1]
    scenarios[name]()
    print(f"{name}: as promised")
