"""Event invoke configs, runtime management, recursion, and settings that this
host can or cannot give, through boto3."""

import datetime

from common import ACCOUNT, REGION, call, client, create, main, refused

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


main(globals())
