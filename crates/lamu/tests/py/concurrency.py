"""Provisioned concurrency through boto3: what stands by, what becomes of it,
and every kind of 429."""

import math
import os
import re
import threading
import time
import urllib.request

from botocore.exceptions import ClientError

from common import (ACCOUNT, PYTHON, REGION, ROLE, call, client, create, fail, main, pack, refused,
                    run, settle)

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
# Tells in which environment it runs, and why that was initialised.
TELLING = """
import os, time, uuid
KIND = os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
ID = str(uuid.uuid4())
CALLS = 0
print("initialised", KIND)
def handler(event, context):
    global CALLS
    CALLS += 1
    if event.get("crash"):
        os._exit(3)
    time.sleep(event.get("s", 0))
    return {"kind": KIND, "id": ID, "calls": CALLS, "version": context.function_version, "n": %d}
"""
PROVISIONED = "provisioned-concurrency"


def metrics():
    return urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL_LAMBDA"] + "/metrics").read().decode()


def metric(pattern):
    """The sum of all lines that the pattern is found in."""
    lines = [line for line in metrics().splitlines() if re.search(pattern, line) and line[0] != "#"]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def eventually(what, holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}\n{metrics()}"
        time.sleep(0.05)


def get(api, qualifier, name="f"):
    got = api.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
    return got


def put(api, qualifier, count, name="f"):
    return api.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count)


def ready(api, qualifier, count, name="f"):
    def shown():
        got = get(api, qualifier, name)
        figures = [got[f"{word}ProvisionedConcurrentExecutions"]
                   for word in ("Requested", "Allocated", "Available")]
        # A call that was just answered may not have ended.
        return (got["Status"], figures) == ("READY", [count] * 3)

    eventually("READY", shown)
    got = get(api, qualifier, name)
    assert "StatusReason" not in got
    return got


def standing(state="idle", name="f"):
    return metric(f'function_environments.*function="{name}".*{PROVISIONED}.*state="{state}"')


def publish(api, n, name="f"):
    """A version that answers with n."""
    if n == 1:
        create(api, name, TELLING % n, Timeout=20)
    else:
        api.update_function_code(FunctionName=name, ZipFile=pack({"app.py": TELLING % n}))
        settle(api, name)
    return api.publish_version(FunctionName=name)["Version"]


def messages(name="f"):
    events = client("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    return [event["message"].rstrip("\n") for event in events]


def at_once(count, one):
    """What so many calls at the same time return."""
    results = [None] * count

    def call_one(i):
        results[i] = one()

    threads = [threading.Thread(target=call_one, args=(i,)) for i in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return results


def three_stand_by_before_any_call():
    api = client(config={"max_pool_connections": 20})
    publish(api, 1)
    asked = put(api, "1", 3)
    assert asked["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert asked["Status"] == "IN_PROGRESS" and asked["RequestedProvisionedConcurrentExecutions"] == 3
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000", asked["LastModified"]), asked
    assert ready(api, "1", 3)["LastModified"] == asked["LastModified"]

    assert standing() == 3
    assert metric("^lamu_worker_invocations_total") == 0 and metric("^lamu_worker_inits_total") == 3
    eventually("Init is logged", lambda: messages().count(f"initialised {PROVISIONED}") == 3)
    lines = messages()
    reports = [line for line in lines if line.startswith("INIT_REPORT")]
    assert len(reports) == 3 and all("\tPhase: init\tStatus: success" in r for r in reports), lines
    assert not any(line.startswith("START") for line in lines), lines
    assert sum(line.startswith("INIT_START Runtime Version") for line in lines) == 3, lines

    first = call(api, "f:1", LogType="Tail")
    assert first["Json"]["kind"] == PROVISIONED and first["Json"]["calls"] == 1
    assert "REPORT RequestId" in first["Log"] and "\tInit Duration" not in first["Log"], first["Log"]
    timing = first["ResponseMetadata"]["HTTPHeaders"]["server-timing"]
    assert "init" not in timing and "handler" in timing, timing

    # Five at once: three find one that stands by, two get one made.
    answers = at_once(5, lambda: run(api, "f:1", {"s": 2}))
    kinds = sorted(answer["kind"] for answer in answers)
    assert kinds == ["on-demand"] * 2 + [PROVISIONED] * 3, kinds
    assert len({answer["id"] for answer in answers}) == 5
    assert metric("^lamu_provisioned_concurrency_invocations_total") == 4
    assert metric("^lamu_provisioned_concurrency_spillover_invocations_total") == 2
    # They are handed out first, though the others were used as late.
    assert all(run(api, "f:1")["kind"] == PROVISIONED for _ in range(10))

    slow = threading.Thread(target=lambda: run(client(), "f:1", {"s": 3}))
    slow.start()
    eventually("one is in use", lambda: get(api, "1")["AvailableProvisionedConcurrentExecutions"] == 2)
    assert get(api, "1")["AllocatedProvisionedConcurrentExecutions"] == 3
    assert metric("^lamu_provisioned_concurrency_executions") == 1
    assert 0.3 < metric("^lamu_provisioned_concurrency_utilization") < 0.4
    slow.join()

    put(api, "1", 1)
    ready(api, "1", 1)
    eventually("the others end", lambda: standing() == 1 and standing("draining") == 0)
    api.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="1")
    eventually("all end", lambda: standing() + standing("draining") == 0)
    with refused("ProvisionedConcurrencyConfigNotFoundException", 404,
                 "No Provisioned Concurrency Config found for this function"):
        get(api, "1")
    assert run(api, "f:1")["kind"] == "on-demand"


def what_ends_is_made_again():
    api = client()
    publish(api, 1)
    put(api, "1", 2)
    ready(api, "1", 2)
    before = {answer["id"] for answer in at_once(2, lambda: run(api, "f:1", {"s": 1}))}
    error = fail(api, "f:1", {"crash": True})
    assert error["errorType"] == "Runtime.ExitError", error
    ready(api, "1", 2)
    answers = at_once(2, lambda: run(api, "f:1", {"s": 1}))
    after = {answer["id"] for answer in answers}
    assert len(after & before) == 1 and len(after) == 2, (before, after)
    assert {answer["kind"] for answer in answers} == {PROVISIONED}
    # No call paid for an Init.
    eventually("it is logged", lambda: sum(line.startswith("REPORT") for line in messages()) == 5)
    reports = [line for line in messages() if line.startswith("REPORT")]
    assert not any("Init Duration" in line for line in reports), reports
    assert sum(line.startswith("INIT_REPORT") for line in messages()) == 3
    api.delete_function(FunctionName="f")
    eventually("all end", lambda: standing() + standing("draining") + standing("starting") == 0)


def an_alias_shifts_without_a_cold_start():
    api = client()
    publish(api, 1)
    api.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    put(api, "prod", 2)
    ready(api, "prod", 2)
    publish(api, 2)

    def warm(n, calls=6):
        for _ in range(calls):
            answer = call(api, "f:prod", LogType="Tail")
            assert answer["Json"]["kind"] == PROVISIONED, answer["Json"]
            assert "\tInit Duration" not in answer["Log"]
            assert answer["Json"]["n"] == n

    # The new version stands by beside the old one, before it gets a call.
    warm(1)
    api.update_alias(FunctionName="f", Name="prod",
                     RoutingConfig={"AdditionalVersionWeights": {"2": 0.0}})
    with refused("InvalidParameterValueException", 400,
                 "Invalid alias configuration for Provisioned Concurrency"):
        put(api, "prod", 3)
    ready(api, "prod", 2)
    assert standing() == 4
    warm(1)
    boots = metric("^lamu_worker_boots_total")
    api.update_alias(FunctionName="f", Name="prod", FunctionVersion="2",
                     RoutingConfig={"AdditionalVersionWeights": {}})
    warm(2)
    answers = at_once(2, lambda: run(api, "f:prod", {"s": 1}))
    assert {(answer["kind"], answer["n"]) for answer in answers} == {(PROVISIONED, 2)}
    assert metric("^lamu_worker_boots_total") == boots, "not one was made for a call"
    assert metric("^lamu_provisioned_concurrency_spillover") == 0
    eventually("the old ones end", lambda: standing() == 2 and standing("draining") == 0)

    # Moved at once, the old ones stay until the new are there.
    publish(api, 3)
    api.update_alias(FunctionName="f", Name="prod", FunctionVersion="3")
    assert run(api, "f:prod")["n"] == 3, "the alias moves at once"
    ready(api, "prod", 2)
    eventually("the old ones end", lambda: standing() == 2 and standing("draining") == 0)
    warm(3)
    items = api.get_paginator("list_provisioned_concurrency_configs").paginate(
        FunctionName="f", PaginationConfig={"PageSize": 1}).build_full_result()
    [item] = items["ProvisionedConcurrencyConfigs"]
    assert item["FunctionArn"] == ARN + "f:prod" and item["Status"] == "READY", item
    api.delete_alias(FunctionName="f", Name="prod")
    eventually("all end", lambda: standing() + standing("draining") == 0)


def a_failing_init_is_the_reason():
    api = client()
    create(api, "f", "print('trying')\nraise RuntimeError('not today')\ndef handler(e, c):\n    pass\n")
    api.publish_version(FunctionName="f")
    put(api, "1", 3)
    begun = time.monotonic()
    eventually("FAILED", lambda: get(api, "1")["Status"] == "FAILED")
    got = get(api, "1")
    assert got["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE", got
    assert got["AllocatedProvisionedConcurrentExecutions"] == 0
    time.sleep(4)
    # At first as many as are asked for; then one after 1, 2, 4, 8 seconds.
    tries = messages().count("trying")
    seconds = time.monotonic() - begun
    assert 3 < tries <= 3 + math.log2(seconds + 1), (tries, seconds)
    assert any(line.startswith("INIT_REPORT") and "Status: error" in line for line in messages())
    assert standing() == 0 and get(api, "1")["Status"] == "FAILED"
    assert api.list_provisioned_concurrency_configs(
        FunctionName="f")["ProvisionedConcurrencyConfigs"][0]["Status"] == "FAILED"
    # Calls are served as ever: by an environment of their own.
    assert fail(api, "f:1")["errorMessage"] == "not today"


def wrong_requests_get_lambdas_words():
    api = client()
    publish(api, 1)
    publish(api, 2)
    api.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    invalid = lambda text: refused("InvalidParameterValueException", 400, text)
    with invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions."):
        put(api, "$LATEST", 1)
    with invalid("The function resource provided must be an alias or a published version."):
        get(api, "$LATEST")
    with refused("ResourceNotFoundException", 404, f"Cannot find alias arn: {ARN}f:beta"):
        put(api, "beta", 1)
    with refused("ResourceNotFoundException", 404, f"Function not found: {ARN}f:7"):
        put(api, "7", 1)
    with invalid("decreases account's UnreservedConcurrentExecution below its minimum value of [100]."):
        put(api, "1", 901)
    with invalid("Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000]."):
        put(api, "1", 1001)
    put(api, "prod", 1)
    with refused("ResourceConflictException", 409, "Version is pointed by a Provisioned Concurrency alias"):
        put(api, "1", 1)
    api.create_alias(FunctionName="f", Name="beta", FunctionVersion="1")
    with refused("ResourceConflictException", 409,
                 "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"):
        put(api, "beta", 1)
    put(api, "2", 2)
    with invalid(" ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [3]."):
        api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=1)
    limit = api.get_account_settings()["AccountLimit"]
    assert limit["UnreservedConcurrentExecutions"] == 997, limit
    api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=4)
    with invalid("Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"):
        put(api, "2", 4)
    with refused("ResourceConflictException", 409):
        api.update_alias(FunctionName="f", Name="prod", FunctionVersion="2")


def throttled(error, retry_after):
    assert error.response["Error"]["Code"] == "TooManyRequestsException"
    headers = error.response["ResponseMetadata"]["HTTPHeaders"]
    assert ("retry-after" in headers) == retry_after, headers
    if retry_after:
        assert int(headers["retry-after"]) >= 1


def until_refused(what, why, tries=300):
    """The first refusal of this kind."""
    for _ in range(tries):
        try:
            what()
        except ClientError as error:
            if error.response.get("Reason") == why:
                return error
    raise AssertionError(f"never {why}")


def concurrency_throttles_say_which_limit():
    api = client(config={"max_pool_connections": 20})
    publish(api, 1)
    api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=2)
    put(api, "1", 1)
    ready(api, "1", 1)
    slow = threading.Thread(target=lambda: run(client(), "f", {"s": 5}))
    slow.start()
    eventually("one runs", lambda: metric('^lamu_concurrent_executions') == 1)
    # One of two is kept for version 1.
    why = "ReservedFunctionConcurrentInvocationLimitExceeded"
    throttled(until_refused(lambda: call(api, "f"), why, tries=1), False)
    assert run(api, "f:1")["kind"] == PROVISIONED
    slow.join()
    assert metric('claimed_account_concurrency') == 2
    api.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="1")
    api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    throttled(until_refused(lambda: call(api, "f"), why, tries=1), False)
    assert metric('throttles_total.*"ReservedFunctionConcurrentInvocationLimitExceeded"') >= 2


def rates_throttle_and_say_when_to_come_again():
    # Fifteen requests a second are few: this client waits its turn.
    api = client()
    code = {"ZipFile": pack({"app.py": TELLING % 1})}
    api.create_function(FunctionName="f", Runtime=PYTHON, Handler="app.handler", Role=ROLE,
                        Code=code, Timeout=20)
    for _ in range(100):
        time.sleep(0.2)
        if api.get_function_configuration(FunctionName="f")["State"] == "Active":
            break
    api.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=1)
    why = "ReservedFunctionInvocationRateLimitExceeded"
    throttled(until_refused(lambda: call(api, "f"), why), True)
    time.sleep(1.2)
    run(api, "f")
    error = until_refused(lambda: api.list_functions(), "CallerRateLimitExceeded")
    throttled(error, True)
    message = error.response["Error"]["Message"] or error.response.get("message")
    assert message == "Rate exceeded", error.response
    time.sleep(1.2)
    api.list_functions()
    assert metric('throttles_total.*"CallerRateLimitExceeded"') >= 1


def made_before_a_kill():
    api = client()
    publish(api, 1)
    publish(api, 2)
    api.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    put(api, "prod", 3)
    put(api, "2", 1)
    ready(api, "prod", 3)
    ready(api, "2", 1)


def stands_after_a_kill():
    api = client()
    assert get(api, "prod")["RequestedProvisionedConcurrentExecutions"] == 3
    ready(api, "prod", 3)
    ready(api, "2", 1)
    assert standing() == 4
    assert run(api, "f:prod")["kind"] == PROVISIONED
    assert run(api, "f:2")["kind"] == PROVISIONED
    assert api.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 996


def asked_for_with_a_slow_init():
    api = client()
    create(api, "f", "import time\ntime.sleep(12)\n" + TELLING % 1, Timeout=30)
    api.publish_version(FunctionName="f")
    put(api, "1", 2)


def a_slow_init_is_ready_in_the_end():
    api = client()
    # Longer than an Init on demand may take.
    ready(api, "1", 2)
    answer = run(api, "f:1")
    assert (answer["kind"], answer["calls"]) == (PROVISIONED, 1)


def a_version_is_published():
    publish(client(), 1)


main(globals())
