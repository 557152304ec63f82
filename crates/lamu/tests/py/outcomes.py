"""How invocations end: errors, timeouts, crashes, exits, limits, and what is
left of the environment afterwards."""

import json
import time

from common import (PYTHON, call, client, create, fail, main, pack, refused, run)


def handler_errors_have_pythons_shape():
    api = client()
    create(api, "f", "def handler(event, context):\n    raise ValueError('boom')\n")
    answer = call(api, "f", LogType="Tail")
    error = answer["Json"]
    assert answer["FunctionError"] == "Unhandled"
    assert error["errorMessage"] == "boom" and error["errorType"] == "ValueError"
    assert error["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert "/var/task/app.py" in error["stackTrace"][-1]
    assert "[ERROR] ValueError: boom" in answer["Log"]
    # The environment lives on.
    assert "Init Duration" not in call(api, "f", LogType="Tail")["Log"]


def import_errors_are_told():
    api = client()
    create(api, "f", "import nothing_of_that_name\n")
    error = fail(api, "f")
    assert error["errorType"] == "Runtime.ImportModuleError", error
    assert "No module named 'nothing_of_that_name'" in error["errorMessage"], error
    create(api, "g", "x = 1\n")
    error = fail(api, "g")
    assert error["errorType"] == "Runtime.HandlerNotFound", error


def timeouts_end_the_call_and_keep_tmp():
    api = client()
    code = """
import os, time
fresh = True
def handler(event, context):
    global fresh
    was, fresh = fresh, False
    if event.get('sleep'):
        open('/tmp/kept', 'w').write('here')
        time.sleep(60)
    return [was, os.path.exists('/tmp/kept')]
"""
    create(api, "f", code, Timeout=1)
    assert run(api, "f") == [True, False]
    begun = time.monotonic()
    answer = call(api, "f", {"sleep": True}, LogType="Tail")
    took = time.monotonic() - begun
    assert 0.9 < took < 5, took
    request = answer["ResponseMetadata"]["RequestId"]
    assert answer["Json"] == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request} Error: Task timed out after 1.00 seconds"}
    assert "Status: timeout" in answer["Log"], answer["Log"]
    # A new runtime in the same sandbox.
    assert run(api, "f") == [True, True]


def exits_and_signals_are_worded():
    api = client()
    create(api, "f", "import os\ndef handler(event, context):\n    eval(event['do'])\n")
    error = fail(api, "f", {"do": "os._exit(0)"})
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].endswith("Error: Runtime exited without providing a reason"), error
    error = fail(api, "f", {"do": "os._exit(3)"})
    assert error["errorMessage"].endswith("Error: Runtime exited with error: exit status 3"), error
    error = fail(api, "f", {"do": "os.kill(os.getpid(), 11)"})
    assert error["errorMessage"].endswith("signal: segmentation fault"), error
    assert run(api, "f", {"do": "1"}) is None


def too_much_memory_is_out_of_memory():
    api = client()
    create(api, "f", "def handler(event, context):\n    return len(bytearray(event['mib'] << 20))\n",
           MemorySize=128, Timeout=20)
    assert run(api, "f", {"mib": 10}) == 10 << 20
    error = fail(api, "f", {"mib": 400})
    assert error["errorType"] in ("Runtime.OutOfMemory", "MemoryError"), error
    assert run(api, "f", {"mib": 1}) == 1 << 20


def responses_have_a_limit():
    api = client()
    create(api, "f", "def handler(event, context):\n    return 'x' * event['n']\n", MemorySize=512, Timeout=20)
    assert len(run(api, "f", {"n": 6291554})) == 6291554
    error = fail(api, "f", {"n": 6291555})
    assert error["errorType"] == "Function.ResponseSizeTooLarge", error
    assert error["errorMessage"].startswith("Response payload size exceeded maximum allowed payload size (6291556 bytes)"), error
    assert run(api, "f", {"n": 1}) == "x"


def missing_bootstrap_and_wrong_architecture():
    api = client()
    create(api, "f", pack({"nothing": "x"}), runtime="provided.al2023", handler="x")
    error = fail(api, "f")
    assert error["errorType"] == "Runtime.InvalidEntrypoint", error
    # A program for another machine: an ELF header that says s390x.
    elf = bytearray(64)
    elf[:20] = b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x02\x00\x16"
    create(api, "g", pack({"bootstrap": bytes(elf)}), runtime="provided.al2023", handler="x")
    error = fail(api, "g")
    assert error["errorType"] in ("Runtime.InvalidEntrypoint", "Runtime.ExitError"), error


def init_runs_again_inside_the_call():
    api = client()
    # The first Init crashes the process, the one inside the call does not.
    code = """
import os
if not os.path.exists('/tmp/once'):
    open('/tmp/once', 'w').close()
    os._exit(1)
def handler(event, context):
    return 'second'
"""
    create(api, "f", code, Timeout=5)
    answer = call(api, "f", LogType="Tail")
    assert answer["Json"] == "second", answer
    assert "Init Duration:" not in [l for l in answer["Log"].splitlines() if l.startswith("REPORT")][0]


def the_environment_is_lambdas():
    api = client()
    create(api, "f", """
import os, sys
def handler(event, context):
    return dict(env=dict(os.environ), cwd=os.getcwd(), left=context.get_remaining_time_in_millis(),
                name=context.function_name, mem=context.memory_limit_in_mb,
                group=context.log_group_name, stream=context.log_stream_name,
                client=context.client_context.custom if context.client_context else None)
""", Environment={"Variables": {"MINE": "yes"}}, MemorySize=256, Timeout=7)
    import base64
    got = run(api, "f", ClientContext=base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode())
    env = got["env"]
    expected = {
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{PYTHON}", "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
        "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime", "TZ": ":UTC",
        "_HANDLER": "app.handler", "MINE": "yes"}
    wrong = {k: env.get(k) for k, v in expected.items() if env.get(k) != v}
    assert not wrong, wrong
    assert "HOME" not in env, env["HOME"]
    assert env["AWS_ACCESS_KEY_ID"] and env["AWS_SESSION_TOKEN"]
    assert got["cwd"] == "/var/task" and 5000 < got["left"] <= 7000, got
    assert (got["name"], got["mem"], got["group"]) == ("f", "256", "/aws/lambda/f")
    assert got["client"] == {"a": "b"}


def json_logs_are_records():
    api = client()
    create(api, "f", """
import logging
def handler(event, context):
    logging.getLogger().warning('careful')
    logging.getLogger().info('quiet')
""", LoggingConfig={"LogFormat": "JSON"})
    log = call(api, "f", LogType="Tail")["Log"]
    records = [json.loads(line) for line in log.splitlines()]
    kinds = [record.get("type") for record in records]
    assert "platform.start" in kinds and "platform.report" in kinds, log
    mine = [record for record in records if record.get("message") == "careful"]
    assert mine and mine[0]["level"] == "WARNING" and mine[0]["requestId"], log


def node_functions_work():
    import subprocess
    major = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()[1:].split(".")[0]
    api = client()
    create(api, "f", pack({"index.mjs": "export const handler = async (event, context) => { console.log('hi from node'); return {event, id: context.awsRequestId}; };"}),
           runtime=f"nodejs{major}.x", handler="index.handler")
    answer = call(api, "f", {"a": 1}, LogType="Tail")
    assert answer["Json"]["event"] == {"a": 1}, answer
    assert "\tINFO\thi from node" in answer["Log"], answer["Log"]
    create(api, "g", pack({"index.js": "exports.handler = async () => { throw new TypeError('boom'); };"}),
           runtime=f"nodejs{major}.x", handler="index.handler")
    error = fail(api, "g")
    assert error["errorType"] == "TypeError" and error["errorMessage"] == "boom" and error["trace"], error


main(globals())
