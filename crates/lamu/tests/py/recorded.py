"""Tools' own sequences of requests, replayed as they send them; and botocore's
waiters and paginators, all that the client of Lambda has.

A step of a recorded sequence sends one request and says what of the answer the
tool goes on with:

    send     method and path; call: a function URL that a user fetches
    body     the JSON that is sent; raw: bytes as they are
    status   of the answer; error: its x-amzn-ErrorType
    has      members by dotted path, with their values; absent: members that must not be there
    until    like has, but the request is repeated until it holds, as the tool polls
    json     a member whose text is JSON itself
    keep     members that later steps refer to as ${name}; same: members equal to kept ones
    text     what the body must contain
"""

import base64
import hashlib
import http.client
import json
import os
import re
import time
import urllib.parse
import uuid

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from common import ACCOUNT, PYTHON, REGION, ROLE, client, create, main, pack, refused

ENDPOINT = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL_LAMBDA"])
CREDENTIALS = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
# Far above what settling takes on a busy machine.
SETTLE_SECS = 60


def code(word):
    return pack({"app.py": f"def handler(event, context):\n    return '{word}'\n"})


def request(method, url, headers=None, body=b"", sign=True):
    headers = dict(headers or {})
    if body and "Content-Type" not in headers:
        headers["Content-Type"] = "application/json"
    if sign:
        signed = AWSRequest(method=method, url=url, data=body, headers=headers)
        SigV4Auth(CREDENTIALS, "lambda", REGION).add_auth(signed)
        headers = dict(signed.headers)
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(ENDPOINT.hostname, ENDPOINT.port, timeout=60)
    connection.putrequest(method, url.split(parts.netloc, 1)[1], skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", parts.netloc)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body or method in ("POST", "PUT"):
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body or None)
    answer = connection.getresponse()
    answer.data = answer.read()
    connection.close()
    return answer


def at(value, path):
    """A member by its dotted path; numbers are places in lists."""
    for part in path.split("."):
        if isinstance(value, list):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def member(value, path):
    # Names may have dots in them, so the longest first.
    if isinstance(value, dict) and path in value:
        return value[path]
    return at(value, path)


class Replay:
    def __init__(self, name):
        path = os.path.join(os.environ["LAMU_TEST_ROOT"], "crates/lamu/tests/recorded", name + ".json")
        with open(path) as file:
            self.recorded = json.load(file)
        self.kept = {"runtime": PYTHON, "arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"}
        for number, word in (("1", "one"), ("2", "two")):
            zipped = code(word)
            self.kept["zip" + number] = base64.b64encode(zipped).decode()
            self.kept["sha" + number] = base64.b64encode(hashlib.sha256(zipped).digest()).decode()
            layer = pack({"python/lib.py": f"WORD = '{word}'\n"})
            self.kept["layer" + number] = base64.b64encode(layer).decode()

    def fill(self, value):
        if isinstance(value, dict):
            return {name: self.fill(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner) for inner in value]
        if not isinstance(value, str):
            return value
        return re.sub(r"\$\{(\w+)\}", self.placeholder, value)

    def placeholder(self, found):
        name = found.group(1)
        if name == "escaped":
            return urllib.parse.quote(self.kept["arn"], safe="")
        if name == "escaped_layer":
            return urllib.parse.quote(self.kept["layer"], safe="")
        return self.kept[name]

    def run(self):
        said = ""
        for number, step in enumerate(self.recorded["steps"], 1):
            said = step.get("say", said)
            where = f"step {number} ({said}): {step.get('send') or step.get('call')}"
            try:
                self.step(step)
            except Exception as error:
                raise AssertionError(f"{where}: {error}") from error

    def step(self, step):
        began = time.monotonic()
        while True:
            answer = self.ask(step)
            assert answer.status == step["status"], (answer.status, answer.data)
            shown = self.read(step, answer)
            late = time.monotonic() - began > SETTLE_SECS
            if self.holds(shown, step.get("until", {}), late):
                break
            time.sleep(0.05)
        self.holds(shown, step.get("has", {}), True)
        if "error" in step:
            assert answer.headers["x-amzn-errortype"] == step["error"], answer.headers.items()
        for path in step.get("absent", ()):
            assert member(shown, path) is None, (path, shown)
        for path, name in step.get("same", {}).items():
            assert member(shown, path) == self.kept[name], (member(shown, path), self.kept[name])
        for name, path in step.get("keep", {}).items():
            self.kept[name] = member(shown, path)
            assert self.kept[name], (path, shown)
        if "text" in step:
            assert step["text"].encode() in answer.data, answer.data
        if answer.status == 204:
            assert answer.data == b"", answer.data

    def ask(self, step):
        headers = {**self.recorded["headers"], **step.get("headers", {})}
        if "call" in step:
            return request("GET", self.fill(step["call"]), {"User-Agent": "somebody"}, sign=False)
        method, path = self.fill(step["send"]).split(" ")
        headers["Amz-Sdk-Invocation-Id"] = str(uuid.uuid4())
        body = step.get("raw", json.dumps(self.fill(step["body"])) if "body" in step else "")
        url = f"{ENDPOINT.scheme}://{ENDPOINT.netloc}{path}"
        return request(method, url, headers, body.encode())

    def read(self, step, answer):
        if not answer.data or "call" in step or "raw" in step:
            return {}
        shown = json.loads(answer.data)
        if "json" in step:
            shown[step["json"]] = json.loads(shown[step["json"]])
        return shown

    def holds(self, shown, wanted, must):
        for path, value in self.fill(wanted).items():
            got = member(shown, path)
            assert not must or got == value, (path, got, value, shown)
            if got != value:
                return False
        return True


def terraform():
    Replay("terraform").run()


def sam():
    Replay("sam").run()


def every_waiter_ends():
    api = client()
    quick = {"Delay": 1, "MaxAttempts": 60}
    assert sorted(api.waiter_names) == [
        "function_active", "function_active_v2", "function_exists", "function_updated",
        "function_updated_v2", "published_version_active"], api.waiter_names
    api.create_function(FunctionName="f", Runtime=PYTHON, Handler="app.handler", Role=ROLE,
                        Code={"ZipFile": code("one")})
    for name in ("function_exists", "function_active", "function_active_v2"):
        api.get_waiter(name).wait(FunctionName="f", WaiterConfig=quick)
    api.update_function_code(FunctionName="f", ZipFile=code("two"))
    for name in ("function_updated", "function_updated_v2"):
        api.get_waiter(name).wait(FunctionName="f", WaiterConfig=quick)
    version = api.publish_version(FunctionName="f")["Version"]
    api.get_waiter("published_version_active").wait(
        FunctionName="f", Qualifier=version, WaiterConfig=quick)
    api.update_function_code(FunctionName="f", ZipFile=code("three"), Publish=True)
    api.get_waiter("published_version_active").wait(
        FunctionName="f", Qualifier="2", WaiterConfig=quick)


def every_paginator_pages():
    """Three of what can be many at once, two a page. What is not served says so."""
    api = client()
    for name in ("a", "b", "c"):
        create(api, name, code("one"))
        api.create_alias(FunctionName="a", Name=name, FunctionVersion="$LATEST")
        api.update_function_configuration(FunctionName="a", Description=name)
        api.get_waiter("function_updated_v2").wait(FunctionName="a", WaiterConfig={"Delay": 1})
        api.publish_version(FunctionName="a")
        api.create_function_url_config(FunctionName="a", Qualifier=name, AuthType="NONE")
        api.put_function_event_invoke_config(FunctionName="a", Qualifier=name, MaximumRetryAttempts=0)
    served = {
        "list_functions": ({}, "Functions", 3),
        "list_versions_by_function": ({"FunctionName": "a"}, "Versions", 4),
        "list_aliases": ({"FunctionName": "a"}, "Aliases", 3),
        "list_function_url_configs": ({"FunctionName": "a"}, "FunctionUrlConfigs", 3),
        "list_function_event_invoke_configs": ({"FunctionName": "a"}, "FunctionEventInvokeConfigs", 3),
    }
    for name, (arguments, member_name, count) in served.items():
        pages = list(api.get_paginator(name).paginate(**arguments, PaginationConfig={"PageSize": 2}))
        sizes = [len(page[member_name]) for page in pages]
        assert sizes == [2] * (count // 2) + [1] * (count % 2), (name, sizes)
    # What stands empty pages too: one page, nothing in it.
    empty = {
        "list_layers": ({}, "Layers"),
        "list_layer_versions": ({"LayerName": "absent"}, "LayerVersions"),
        "list_code_signing_configs": ({}, "CodeSigningConfigs"),
        "list_provisioned_concurrency_configs": ({"FunctionName": "a"}, "ProvisionedConcurrencyConfigs"),
    }
    for name, (arguments, member_name) in empty.items():
        pages = list(api.get_paginator(name).paginate(**arguments))
        assert [page[member_name] for page in pages] == [[]], (name, pages)
    signing = api.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [
        f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p/0123456789"]})["CodeSigningConfig"]
    users = api.get_paginator("list_functions_by_code_signing_config").paginate(
        CodeSigningConfigArn=signing["CodeSigningConfigArn"])
    assert [page["FunctionArns"] for page in users] == [[]]
    not_there = {
        "get_durable_execution_history": {"DurableExecutionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:a:1/durable-execution/n/i"},
        "list_durable_executions_by_function": {"FunctionName": "a"},
        "list_capacity_providers": {},
        "list_function_versions_by_capacity_provider": {"CapacityProviderName": "p"},
    }
    for name, arguments in not_there.items():
        with refused("NotImplementedException", 501, "does not serve yet"):
            list(api.get_paginator(name).paginate(**arguments))
    known = {*served, *empty, *not_there, "list_functions_by_code_signing_config"}
    every = {name for name in api.meta.method_to_api_mapping if api.can_paginate(name)}
    # One needs a token that only an execution has; the other comes with its sources.
    assert every - known == {"get_durable_execution_state", "list_event_source_mappings"}, every - known


if __name__ == "__main__":
    main(globals())
