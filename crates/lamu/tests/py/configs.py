"""Event invoke configs, runtime management, recursion, and settings that this
host can or cannot give, through boto3."""

import datetime
import platform
import time

from botocore.exceptions import WaiterError

from common import (ACCOUNT, PYTHON, REGION, ROLE, call, client, create, main, pack, refused,
                    settle)

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"
ECHO = "def handler(event, context):\n    return event\n"


def event_invoke_configs_come_and_go():
    api = client()
    create(api, "f", ECHO, Publish=True)
    create(api, "g", ECHO)
    api.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    put = api.put_function_event_invoke_config(
        FunctionName="f", MaximumRetryAttempts=0, MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnSuccess": {"Destination": ARN + "g"}, "OnFailure": {"Destination": QUEUE}})
    assert put["FunctionArn"] == ARN + "f:$LATEST", put
    assert isinstance(put["LastModified"], datetime.datetime), put
    got = api.get_function_event_invoke_config(FunctionName="f")
    for member in ["MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig", "LastModified"]:
        assert got[member] == put[member], (member, got, put)
    merged = api.update_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=2)
    assert merged["MaximumEventAgeInSeconds"] == 60 and merged["MaximumRetryAttempts"] == 2, merged
    replaced = api.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=1)
    assert "MaximumEventAgeInSeconds" not in replaced, replaced
    assert replaced["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}, replaced

    api.put_function_event_invoke_config(FunctionName="f:prod", MaximumRetryAttempts=1)
    api.put_function_event_invoke_config(FunctionName="f", Qualifier="1", MaximumRetryAttempts=1)
    pages = api.get_paginator("list_function_event_invoke_configs").paginate(
        FunctionName="f", PaginationConfig={"PageSize": 2})
    arns = [c["FunctionArn"] for page in pages for c in page["FunctionEventInvokeConfigs"]]
    assert arns == [ARN + "f:$LATEST", ARN + "f:1", ARN + "f:prod"], arns

    api.delete_alias(FunctionName="f", Name="prod")
    api.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    with refused("ResourceNotFoundException", 404, "f:prod doesn't have an EventInvokeConfig"):
        api.get_function_event_invoke_config(FunctionName="f", Qualifier="prod")
    deleted = api.delete_function_event_invoke_config(FunctionName="f")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("ResourceNotFoundException", 404, "f:$LATEST doesn't have an EventInvokeConfig"):
        api.delete_function_event_invoke_config(FunctionName="f")


def event_invoke_configs_refuse_in_lambdas_words():
    api = client()
    create(api, "f", ECHO)
    with refused("InvalidParameterValueException", 400, "You must specify at least one of error handling"):
        api.put_function_event_invoke_config(FunctionName="f")
    with refused("InvalidParameterValueException", 400, "as a destination for itself"):
        api.put_function_event_invoke_config(
            FunctionName="f", DestinationConfig={"OnSuccess": {"Destination": ARN + "f"}})
    with refused("InvalidParameterValueException", 400, f"The destination ARN {ARN}absent is invalid."):
        api.put_function_event_invoke_config(
            FunctionName="f", DestinationConfig={"OnSuccess": {"Destination": ARN + "absent"}})
    with refused("InvalidParameterValueException", 400, "onFailure=OnFailure(destination=" + QUEUE + ".fifo)"):
        api.put_function_event_invoke_config(
            FunctionName="f", DestinationConfig={"OnFailure": {"Destination": QUEUE + ".fifo"}})
    with refused("ResourceNotFoundException", 404, "The function doesn't exist."):
        api.put_function_event_invoke_config(FunctionName="absent", MaximumRetryAttempts=1)
    with refused("ResourceNotFoundException", 404, "The function doesn't exist."):
        api.list_function_event_invoke_configs(FunctionName="absent")


def runtimes_are_managed_by_version():
    api = client()
    create(api, "f", ECHO, Publish=True)
    assert api.get_runtime_management_config(FunctionName="f")["UpdateRuntimeOn"] == "Auto"
    arn = api.get_function_configuration(FunctionName="f")["RuntimeVersionConfig"]["RuntimeVersionArn"]
    put = api.put_runtime_management_config(
        FunctionName="f", Qualifier="1", UpdateRuntimeOn="Manual", RuntimeVersionArn=arn)
    assert put["FunctionArn"] == ARN + "f:1" and put["RuntimeVersionArn"] == arn, put
    got = api.get_runtime_management_config(FunctionName="f", Qualifier="1")
    assert (got["UpdateRuntimeOn"], got["RuntimeVersionArn"]) == ("Manual", arn), got
    latest = api.get_runtime_management_config(FunctionName="f")
    assert latest["UpdateRuntimeOn"] == "Auto" and "RuntimeVersionArn" not in latest, latest
    with refused("InvalidParameterValueException", 400, "is not available for runtime"):
        api.put_runtime_management_config(
            FunctionName="f", UpdateRuntimeOn="Manual", RuntimeVersionArn=arn[:-64] + "0" * 64)
    with refused("ResourceNotFoundException", 404, "Function not found: " + ARN + "f:9"):
        api.get_runtime_management_config(FunctionName="f", Qualifier="9")


def recursion_is_allowed_or_not():
    api = client()
    create(api, "f", ECHO)
    assert api.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Terminate"
    assert api.put_function_recursion_config(FunctionName="f", RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"
    assert api.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Allow"
    api.delete_function(FunctionName="f")
    with refused("ResourceNotFoundException", 404, "Function not found: " + ARN + "f"):
        api.get_function_recursion_config(FunctionName="f")
    create(api, "f", ECHO)
    assert api.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Terminate"


def a_runtime_version_has_one_arn():
    api = client()
    create(api, "f", ECHO)
    shown = api.get_function_configuration(FunctionName="f")["RuntimeVersionConfig"]["RuntimeVersionArn"]
    log = call(api, "f", LogType="Tail")["Log"]
    starts = [line for line in log.splitlines() if line.startswith("INIT_START")]
    assert starts and starts[0].endswith("Runtime Version ARN: " + shown), (shown, log)


def what_the_host_cannot_give_fails_with_its_reason():
    api = client()
    other = "x86_64" if platform.machine() == "aarch64" else "arm64"
    code = {"ZipFile": pack({"app.py": ECHO})}
    more = {"Runtime": PYTHON, "Handler": "app.handler", "Role": ROLE, "Code": code}
    made = api.create_function(FunctionName="f", Architectures=[other], **more)
    assert made["State"] == "Pending" and made["Architectures"] == [other], made
    api.create_function(
        FunctionName="g", VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}, **more)
    for name, reason, text in [("f", "InvalidConfiguration", other), ("g", "InvalidSubnet", "subnet-1")]:
        try:
            settle(api, name)
            raise AssertionError("it became active")
        except WaiterError:
            pass
        failed = api.get_function_configuration(FunctionName=name)
        assert failed["State"] == "Failed" and failed["StateReasonCode"] == reason, failed
        assert text in failed["StateReason"], failed
        with refused("ResourceConflictException", 409, "Failed"):
            api.invoke(FunctionName=name)
    native = "arm64" if other == "x86_64" else "x86_64"
    create(api, "h", ECHO, Architectures=[native], KMSKeyArn="arn:aws:kms:us-east-1:000000000000:key/k",
           VpcConfig={"SubnetIds": [], "SecurityGroupIds": []})
    shown = api.get_function_configuration(FunctionName="h")
    assert shown["KMSKeyArn"].endswith("key/k") and shown["Architectures"] == [native], shown
    assert call(api, "h", 1)["Json"] == 1
    api.update_function_code(FunctionName="h", ZipFile=code["ZipFile"], Architectures=[other])
    try:
        settle(api, "h")
        raise AssertionError("the update succeeded")
    except WaiterError:
        pass
    assert api.get_function_configuration(FunctionName="h")["LastUpdateStatusReasonCode"] == "InvalidConfiguration"
    assert call(api, "h", 2)["Json"] == 2, "the code from before serves"


def logs_go_to_the_group_and_levels_asked_for():
    api, logs = client(), client("logs")
    text = ("import logging\n"
            "def handler(event, context):\n"
            "    log = logging.getLogger()\n"
            "    log.info('quiet')\n"
            "    log.error('loud')\n")
    create(api, "f", text, LoggingConfig={
        "LogFormat": "JSON", "LogGroup": "/custom/group", "ApplicationLogLevel": "ERROR", "SystemLogLevel": "WARN"})
    shown = api.get_function_configuration(FunctionName="f")["LoggingConfig"]
    assert shown == {"LogFormat": "JSON", "LogGroup": "/custom/group",
                     "ApplicationLogLevel": "ERROR", "SystemLogLevel": "WARN"}, shown
    call(api, "f")
    deadline = time.monotonic() + 10
    while True:
        try:
            messages = [e["message"] for e in logs.filter_log_events(logGroupName="/custom/group")["events"]]
        except logs.exceptions.ResourceNotFoundException:
            messages = []
        if any("loud" in message for message in messages):
            break
        assert time.monotonic() < deadline, messages
        time.sleep(0.05)
    assert not any("quiet" in message or "platform.start" in message for message in messages), messages
    with refused("ResourceNotFoundException"):
        logs.filter_log_events(logGroupName="/aws/lambda/f")
    with refused("InvalidParameterValueException", 400, "LogFormat is set to JSON"):
        api.update_function_configuration(
            FunctionName="f", LoggingConfig={"LogFormat": "Text", "SystemLogLevel": "INFO"})
    plain = api.update_function_configuration(FunctionName="f", LoggingConfig={"LogFormat": "Text"})
    assert plain["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/custom/group"}, plain


def the_account_shows_what_is_used():
    api = client()
    empty = api.get_account_settings()
    assert empty["AccountUsage"] == {"TotalCodeSize": 0, "FunctionCount": 0}, empty
    assert empty["AccountLimit"]["CodeSizeUnzipped"] == 262144000, empty
    assert empty["AccountLimit"]["CodeSizeZipped"] == 52428800, empty
    size = create(api, "f", ECHO, Publish=True)["CodeSize"]
    create(api, "g", ECHO)
    api.put_function_concurrency(FunctionName="g", ReservedConcurrentExecutions=7)
    used = api.get_account_settings()
    assert used["AccountUsage"] == {"TotalCodeSize": 3 * size, "FunctionCount": 2}, (size, used)
    limit = used["AccountLimit"]
    assert limit["UnreservedConcurrentExecutions"] == limit["ConcurrentExecutions"] - 7, limit
    api.delete_function(FunctionName="f")
    assert api.get_account_settings()["AccountUsage"] == {"TotalCodeSize": size, "FunctionCount": 1}


main(globals())
