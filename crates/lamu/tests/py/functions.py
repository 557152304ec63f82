"""The life of a function through boto3: made, called, changed, published,
aliased, limited, tagged, deleted."""

import base64
import hashlib
import json
import threading
import time
import urllib.error
import urllib.request

from common import (ACCOUNT, PYTHON, REGION, ROLE, call, client, create, main, pack, refused, run,
                    settle)

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
ECHO = "def handler(event, context):\n    return event\n"
VERSIONED = "def handler(event, context):\n    return [context.function_version, %d, context.invoked_function_arn]\n"


def created_and_invoked():
    api = client()
    code = pack({"app.py": ECHO})
    made = api.create_function(
        FunctionName="f", Runtime=PYTHON, Handler="app.handler", Role=ROLE, Code={"ZipFile": code},
        Description="echo", Environment={"Variables": {"KEY": "1"}}, Tags={"team": "x"})
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert made["State"] == "Pending" and made["StateReasonCode"] == "Creating", made
    assert made["FunctionArn"] == ARN + "f" and made["Version"] == "$LATEST"
    assert made["CodeSize"] == len(code)
    assert made["CodeSha256"] == base64.b64encode(hashlib.sha256(code).digest()).decode()
    settle(api, "f")

    got = api.get_function(FunctionName="f")
    config = got["Configuration"]
    assert config["State"] == "Active" and config["LastUpdateStatus"] == "Successful"
    assert config["MemorySize"] == 128 and config["Timeout"] == 3
    assert config["EphemeralStorage"] == {"Size": 512}
    assert config["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/f"}
    assert got["Tags"] == {"team": "x"}

    answer = call(api, "f", {"k": [1, None, "ü"]})
    assert answer["Json"] == {"k": [1, None, "ü"]}
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer
    # A second call finds the first one's environment.
    assert run(api, "f", "again") == "again"


def code_location_downloads_and_expires():
    api = client()
    code = pack({"app.py": ECHO})
    create(api, "f", code)
    location = api.get_function(FunctionName="f")["Code"]
    assert location["RepositoryType"] == "S3"
    got = urllib.request.urlopen(location["Location"]).read()
    assert got == code
    assert "signature=" in location["Location"], location
    tampered = location["Location"].replace("signature=", "signature=0")
    try:
        urllib.request.urlopen(tampered)
        raise AssertionError("a changed signature was taken")
    except urllib.error.HTTPError as error:
        assert error.code == 403, error.code


def log_tail_and_dry_run():
    api = client()
    create(api, "f", "def handler(event, context):\n    print('said this')\n    return 1\n")
    answer = call(api, "f", LogType="Tail")
    lines = answer["Log"].splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("START RequestId: ")]
    assert starts, lines
    request = lines[starts[0]].split()[2]
    assert request == answer["ResponseMetadata"]["RequestId"], lines
    assert "said this" in lines, lines
    assert f"END RequestId: {request}" in lines, lines
    report = [line for line in lines if line.startswith(f"REPORT RequestId: {request}\t")]
    assert report and "\tInit Duration: " in report[0] and report[0].endswith("\t"), lines
    warm = call(api, "f", LogType="Tail")["Log"]
    assert "Init Duration" not in warm, warm
    dry = api.invoke(FunctionName="f", InvocationType="DryRun")
    assert dry["StatusCode"] == 204
    with refused("ResourceNotFoundException", 404, "function:absent:$LATEST"):
        api.invoke(FunctionName="absent", InvocationType="DryRun")


def updated_code_runs_next():
    api = client()
    create(api, "f", VERSIONED % 1)
    assert run(api, "f")[1] == 1
    before = api.get_function_configuration(FunctionName="f")
    update = api.update_function_code(FunctionName="f", ZipFile=pack({"app.py": VERSIONED % 2}))
    assert update["LastUpdateStatus"] == "InProgress" and update["RevisionId"] != before["RevisionId"]
    settle(api, "f")
    assert run(api, "f")[1] == 2

    api.update_function_configuration(
        FunctionName="f", Timeout=5, MemorySize=256, Environment={"Variables": {"OTHER": "2"}})
    settle(api, "f")
    after = api.get_function_configuration(FunctionName="f")
    assert (after["Timeout"], after["MemorySize"]) == (5, 256)
    assert after["Environment"] == {"Variables": {"OTHER": "2"}}

    with refused("PreconditionFailedException", 412, "The Revision Id provided does not match"):
        api.update_function_code(
            FunctionName="f", ZipFile=pack({"app.py": VERSIONED % 3}), RevisionId=before["RevisionId"])
    dry = api.update_function_code(
        FunctionName="f", ZipFile=pack({"app.py": VERSIONED % 3}), DryRun=True)
    assert dry["CodeSha256"] != after["CodeSha256"]
    assert run(api, "f")[1] == 2


def versions_never_change():
    api = client()
    create(api, "f", VERSIONED % 1)
    one = api.publish_version(FunctionName="f", Description="first")
    assert one["Version"] == "1" and one["FunctionArn"] == ARN + "f:1"
    again = api.publish_version(FunctionName="f")
    assert again["Version"] == "1" and again["RevisionId"] == one["RevisionId"]
    api.update_function_code(FunctionName="f", ZipFile=pack({"app.py": VERSIONED % 2}))
    settle(api, "f")
    two = api.publish_version(FunctionName="f")
    assert two["Version"] == "2"

    assert run(api, "f", Qualifier="1") == ["1", 1, ARN + "f:1"]
    assert run(api, "f:2") == ["2", 2, ARN + "f:2"]
    assert run(api, "f") == ["$LATEST", 2, ARN + "f"]
    answer = call(api, "f", Qualifier="1")
    assert answer["ExecutedVersion"] == "1"

    listed = api.list_versions_by_function(FunctionName="f")["Versions"]
    assert [v["Version"] for v in listed] == ["$LATEST", "1", "2"]
    page = api.list_versions_by_function(FunctionName="f", MaxItems=2)
    rest = api.list_versions_by_function(FunctionName="f", MaxItems=2, Marker=page["NextMarker"])
    assert len(page["Versions"]) == 2 and [v["Version"] for v in rest["Versions"]] == ["2"]

    api.delete_function(FunctionName="f", Qualifier="1")
    with refused("ResourceNotFoundException", 404, "function:f:1"):
        call(api, "f", Qualifier="1")
    with refused("InvalidParameterValueException", 400, "CodeSHA256 (nonsense) is different"):
        api.publish_version(FunctionName="f", CodeSha256="nonsense")


def aliases_route_by_weight():
    api = client()
    create(api, "f", VERSIONED % 1)
    api.publish_version(FunctionName="f")
    api.update_function_code(FunctionName="f", ZipFile=pack({"app.py": VERSIONED % 2}), Publish=True)
    settle(api, "f")
    made = api.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    assert made["AliasArn"] == ARN + "f:prod"
    assert run(api, "f", Qualifier="prod") == ["1", 1, ARN + "f:prod"]
    with refused("ResourceConflictException", 409, "Alias already exists"):
        api.create_alias(FunctionName="f", Name="prod", FunctionVersion="2")

    routed = api.update_alias(
        FunctionName="f", Name="prod", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    assert routed["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.5}}
    seen = [call(api, "f:prod")["ExecutedVersion"] for _ in range(60)]
    assert {"1", "2"} == set(seen), seen
    api.update_alias(FunctionName="f", Name="prod", FunctionVersion="2",
                     RoutingConfig={"AdditionalVersionWeights": {}})
    assert {call(api, "f:prod")["ExecutedVersion"] for _ in range(10)} == {"2"}

    assert [a["Name"] for a in api.list_aliases(FunctionName="f")["Aliases"]] == ["prod"]
    with refused("ResourceConflictException", 409):
        api.delete_function(FunctionName="f", Qualifier="2")
    api.delete_alias(FunctionName="f", Name="prod")
    with refused("ResourceNotFoundException", 404, "Cannot find alias arn"):
        api.get_alias(FunctionName="f", Name="prod")


def reserved_concurrency_throttles():
    api = client(config={"max_pool_connections": 20})
    create(api, "f", "import time\ndef handler(event, context):\n    time.sleep(event.get('s', 0))\n",
           Timeout=20)
    put = api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=1)
    assert put["ReservedConcurrentExecutions"] == 1
    got = api.get_function_concurrency(FunctionName="f")
    assert got["ReservedConcurrentExecutions"] == 1
    run(api, "f")
    slow = threading.Thread(target=lambda: run(client(), "f", {"s": 2}))
    slow.start()
    time.sleep(0.7)
    with refused("TooManyRequestsException", 429, "Rate Exceeded") as no:
        call(api, "f")
    slow.join()
    run(api, "f")

    api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    with refused("TooManyRequestsException", 429):
        call(api, "f")
    api.delete_function_concurrency(FunctionName="f")
    run(api, "f")
    with refused("InvalidParameterValueException", 400, "below its minimum value of [100]"):
        api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=901)
    limits = api.get_account_settings()
    assert limits["AccountLimit"]["ConcurrentExecutions"] == 1000
    assert limits["AccountUsage"]["FunctionCount"] == 1


def overlapping_calls_all_answer():
    api = client(config={"max_pool_connections": 40})
    create(api, "f", "import time\ndef handler(event, context):\n    time.sleep(0.2)\n    return event\n")
    results = [None] * 30

    def one(i):
        results[i] = run(api, "f", i)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(30)]
    begun = time.monotonic()
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert results == [{}] + list(range(1, 30)), results
    assert time.monotonic() - begun < 20


def tags_come_and_go():
    api = client()
    create(api, "f", ECHO, Tags={"a": "1"})
    api.tag_resource(Resource=ARN + "f", Tags={"b": "2", "a": "3"})
    assert api.list_tags(Resource=ARN + "f")["Tags"] == {"a": "3", "b": "2"}
    api.untag_resource(Resource=ARN + "f", TagKeys=["a"])
    assert api.list_tags(Resource=ARN + "f")["Tags"] == {"b": "2"}
    with refused("ResourceNotFoundException", 404):
        api.list_tags(Resource=ARN + "absent")


def deleted_functions_are_gone():
    api = client()
    create(api, "f", ECHO)
    run(api, "f")
    with refused("ResourceConflictException", 409, "Function already exist: f"):
        create(api, "f", ECHO)
    api.delete_function(FunctionName="f")
    with refused("ResourceNotFoundException", 404, f"Function not found: {ARN}f"):
        api.get_function(FunctionName="f")
    with refused("ResourceNotFoundException", 404, f"{ARN}f:$LATEST"):
        call(api, "f")
    assert api.list_functions()["Functions"] == []
    create(api, "f", ECHO)
    assert run(api, "f", "new") == "new"


def listed_in_pages():
    api = client()
    code = pack({"app.py": ECHO})
    for i in range(7):
        api.create_function(FunctionName=f"f{i}", Runtime=PYTHON, Handler="app.handler", Role=ROLE,
                            Code={"ZipFile": code})
    names = []
    for page in api.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3}):
        assert len(page["Functions"]) <= 3
        names += [f["FunctionName"] for f in page["Functions"]]
    assert sorted(names) == [f"f{i}" for i in range(7)], names


def wrong_requests_get_lambdas_words():
    api = client()
    code = {"ZipFile": pack({"app.py": ECHO})}
    good = dict(FunctionName="f", Runtime=PYTHON, Handler="app.handler", Role=ROLE, Code=code)
    with refused("ValidationException", 400, "1 validation error detected: Value 'in valid' at 'functionName'"):
        api.create_function(**{**good, "FunctionName": "in valid"})
    with refused("InvalidParameterValueException", 400, "at 'runtime' failed to satisfy constraint"):
        api.create_function(**{**good, "Runtime": "cobol85"})
    with refused("InvalidParameterValueException", 400, "Could not unzip uploaded file"):
        api.create_function(**{**good, "Code": {"ZipFile": b"not a zip"}})
    with refused("InvalidParameterValueException", 400, "Reserved keys used in this request: AWS_REGION"):
        api.create_function(**good, Environment={"Variables": {"AWS_REGION": "x"}})
    with refused("InvalidParameterValueException", 400, "exceeded the 4KB limit"):
        api.create_function(**good, Environment={"Variables": {"KEY": "x" * 5000}})
    with refused("ValidationException", 400, "less than or equal to"):
        api.create_function(**good, MemorySize=99999)
    create(api, "f", ECHO)
    with refused("InvalidRequestContentException", 400, "Could not parse request body into json"):
        api.invoke(FunctionName="f", Payload=b"{nope")
    with refused("RequestTooLargeException", 413, "Request must be smaller than 6291456 bytes"):
        api.invoke(FunctionName="f", Payload=b'"' + b"x" * 6291456 + b'"')
    with refused("InvalidParameterValueException", 400, "derived qualifier"):
        call(api, "f:$LATEST", Qualifier="1")
    with refused("ResourceNotFoundException", 404, "are not reachable in this region"):
        call(api, f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:f")


def regions_and_accounts_are_apart():
    here, there = client(region_name="us-east-1"), client(region_name="eu-central-1")
    other = client(aws_access_key_id="111122223333", aws_secret_access_key="test")
    create(here, "f", "def handler(e, c):\n    return c.invoked_function_arn\n")
    with refused("ResourceNotFoundException", 404, "eu-central-1"):
        there.get_function(FunctionName="f")
    with refused("ResourceNotFoundException", 404, ":111122223333:"):
        other.get_function(FunctionName="f")
    create(there, "f", "import os\ndef handler(e, c):\n    return [c.invoked_function_arn, os.environ['AWS_REGION']]\n")
    create(other, "f", "def handler(e, c):\n    return c.invoked_function_arn\n")
    assert run(here, "f") == ARN + "f"
    assert run(there, "f") == [f"arn:aws:lambda:eu-central-1:{ACCOUNT}:function:f", "eu-central-1"]
    assert run(other, "f") == f"arn:aws:lambda:{REGION}:111122223333:function:f"


def what_is_not_there_yet_says_so():
    api = client()
    create(api, "f", ECHO)
    for ask in [
        lambda: api.invoke(FunctionName="f", InvocationType="Event"),
        lambda: api.list_capacity_providers(),
    ]:
        try:
            ask()
            raise AssertionError("a fake success")
        except api.exceptions.ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 501, error.response


def code_comes_from_s3():
    import os
    api = client()
    made = create(api, "f", {"S3Bucket": "code", "S3Key": "a b/f.zip"})
    assert made["CodeSize"] > 0
    assert run(api, "f", "x") == "x"
    with refused("InvalidParameterValueException", 400, "S3 Error Code: NoSuchKey"):
        create(api, "g", {"S3Bucket": "code", "S3Key": "absent.zip"})


def logs_are_read_like_cloudwatchs():
    api, logs = client(), client("logs")
    create(api, "f", "def handler(event, context):\n    print('line', event['n'])\n")
    for n in range(3):
        run(api, "f", {"n": n})
    deadline = time.monotonic() + 10
    while True:
        events = logs.filter_log_events(logGroupName="/aws/lambda/f")["events"]
        messages = [event["message"].rstrip("\n") for event in events]
        if sum(message.startswith("REPORT") for message in messages) == 3:
            break
        assert time.monotonic() < deadline, messages
        time.sleep(0.05)
    assert [m for m in messages if m.startswith("line")] == ["line 0", "line 1", "line 2"], messages
    streams = logs.describe_log_streams(logGroupName="/aws/lambda/f")["logStreams"]
    assert len(streams) == 1 and "[$LATEST]" in streams[0]["logStreamName"], streams
    got = logs.get_log_events(logGroupName="/aws/lambda/f", logStreamName=streams[0]["logStreamName"])
    assert len(got["events"]) == len(events)


main(globals())
