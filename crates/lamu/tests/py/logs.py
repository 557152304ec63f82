"""CloudWatch Logs as tools and SDKs ask for it: groups, streams, events,
filters, tags, and what functions write."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

from common import ACCOUNT, REGION, client, create, main, refused, run


def now_ms():
    return int(time.time() * 1000)


def eventually(what, holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)


def arn(group):
    return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"


def messages(events):
    return [event["message"] for event in events]


def filtered(logs, group, **more):
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, **more)
    return [event for page in pages for event in page["events"]]


def groups_have_settings_and_end():
    logs = client("logs")
    logs.create_log_group(logGroupName="/team/a", tags={"team": "a"})
    with refused("ResourceAlreadyExistsException", 400, "The specified log group already exists"):
        logs.create_log_group(logGroupName="/team/a")
    for name in ["/team/b", "/team/c", "other"]:
        logs.create_log_group(logGroupName=name)
    listed = logs.get_paginator("describe_log_groups").paginate(
        logGroupNamePrefix="/team/", PaginationConfig={"PageSize": 1})
    assert [g["logGroupName"] for page in listed for g in page["logGroups"]] == ["/team/a", "/team/b", "/team/c"]
    found = logs.describe_log_groups(logGroupNamePattern="he")["logGroups"]
    assert [g["logGroupName"] for g in found] == ["other"]
    found = logs.describe_log_groups(logGroupIdentifiers=["other", arn("/team/b"), "none"])["logGroups"]
    assert [g["logGroupName"] for g in found] == ["other", "/team/b"]

    group = logs.describe_log_groups(logGroupNamePrefix="/team/a")["logGroups"][0]
    assert group["arn"] == arn("/team/a") + ":*" and group["logGroupArn"] == arn("/team/a")
    assert abs(group["creationTime"] - now_ms()) < 60_000
    assert group["storedBytes"] == 0 and group["logGroupClass"] == "STANDARD"
    assert "retentionInDays" not in group
    logs.put_retention_policy(logGroupName="/team/a", retentionInDays=7)
    assert logs.describe_log_groups(logGroupNamePrefix="/team/a")["logGroups"][0]["retentionInDays"] == 7
    with refused("InvalidParameterException", 400, "at 'retentionInDays' failed to satisfy constraint"):
        logs.put_retention_policy(logGroupName="/team/a", retentionInDays=8)
    logs.delete_retention_policy(logGroupName="/team/a")
    assert "retentionInDays" not in logs.describe_log_groups(logGroupNamePrefix="/team/a")["logGroups"][0]

    assert logs.list_tags_for_resource(resourceArn=arn("/team/a"))["tags"] == {"team": "a"}
    logs.tag_resource(resourceArn=arn("/team/a"), tags={"stage": "test", "team": "b"})
    logs.untag_resource(resourceArn=arn("/team/a"), tagKeys=["stage", "absent"])
    assert logs.list_tags_log_group(logGroupName="/team/a")["tags"] == {"team": "b"}
    logs.tag_log_group(logGroupName="/team/a", tags={"x": "y"})
    logs.untag_log_group(logGroupName="/team/a", tags=["team"])
    assert logs.list_tags_for_resource(resourceArn=arn("/team/a") + ":*")["tags"] == {"x": "y"}
    with refused("TooManyTagsException", 400):
        logs.tag_resource(resourceArn=arn("/team/a"), tags={str(i): "" for i in range(50)})

    logs.put_log_group_deletion_protection(
        logGroupIdentifier="/team/a", deletionProtectionEnabled=True)
    with refused("ValidationException", 400):
        logs.delete_log_group(logGroupName="/team/a")
    logs.put_log_group_deletion_protection(
        logGroupIdentifier="/team/a", deletionProtectionEnabled=False)
    logs.delete_log_group(logGroupName="/team/a")
    for ask in [
        lambda: logs.delete_log_group(logGroupName="/team/a"),
        lambda: logs.put_retention_policy(logGroupName="/team/a", retentionInDays=1),
        lambda: logs.describe_log_streams(logGroupName="/team/a"),
        lambda: logs.filter_log_events(logGroupName="/team/a"),
        lambda: logs.list_tags_for_resource(resourceArn=arn("/team/a")),
    ]:
        with refused("ResourceNotFoundException", 400, "The specified log group does not exist."):
            ask()
    # Another account's are not there for this one.
    other = client("logs", aws_access_key_id="111111111111", aws_secret_access_key="x")
    assert other.describe_log_groups()["logGroups"] == []
    with refused("ResourceNotFoundException"):
        other.filter_log_events(logGroupIdentifier=arn("other"))
    # Nothing is encrypted with a key that is not there.
    with refused("InvalidParameterException", 400, "KMS"):
        logs.create_log_group(logGroupName="secret", kmsKeyId="arn:aws:kms:us-east-1:000000000000:key/k")


def streams_are_read_from_both_ends():
    logs = client("logs")
    logs.create_log_group(logGroupName="g")
    with refused("ResourceNotFoundException", 400, "The specified log group does not exist."):
        logs.create_log_stream(logGroupName="none", logStreamName="s")
    for stream in ["b", "a", "c"]:
        logs.create_log_stream(logGroupName="g", logStreamName=stream)
    with refused("ResourceAlreadyExistsException", 400, "The specified log stream already exists"):
        logs.create_log_stream(logGroupName="g", logStreamName="a")
    with refused("InvalidParameterException", 400, "Member must satisfy regular expression pattern: [^:*]*"):
        logs.create_log_stream(logGroupName="g", logStreamName="a:b")

    base = now_ms() - 3_600_000
    for stream, shift in [("a", 5), ("b", 1)]:
        answer = logs.put_log_events(logGroupName="g", logStreamName=stream, logEvents=[
            {"timestamp": base + i * 10 + shift, "message": f"{stream} {i}"} for i in range(1000)])
        assert "rejectedLogEventsInfo" not in answer
    streams = logs.describe_log_streams(logGroupName="g")["logStreams"]
    assert [s["logStreamName"] for s in streams] == ["a", "b", "c"]
    assert streams[0]["firstEventTimestamp"] == base + 5
    assert streams[0]["lastEventTimestamp"] == base + 9_995
    assert streams[0]["arn"] == arn("g") + ":log-stream:a"
    assert "firstEventTimestamp" not in streams[2]
    pages = logs.get_paginator("describe_log_streams").paginate(
        logGroupName="g", orderBy="LastEventTime", descending=True, PaginationConfig={"PageSize": 1})
    assert [s["logStreamName"] for p in pages for s in p["logStreams"]] == ["a", "b", "c"]
    with refused("InvalidParameterException", 400, "Cannot order by LastEventTime"):
        logs.describe_log_streams(logGroupName="g", orderBy="LastEventTime", logStreamNamePrefix="a")

    def get(**more):
        return logs.get_log_events(logGroupName="g", logStreamName="a", **more)

    tail = get(limit=10)
    assert messages(tail["events"]) == [f"a {i}" for i in range(990, 1000)]
    before = get(limit=10, nextToken=tail["nextBackwardToken"])
    assert messages(before["events"]) == [f"a {i}" for i in range(980, 990)]
    forth = get(limit=10, nextToken=before["nextForwardToken"], startFromHead=True)
    assert messages(forth["events"]) == messages(tail["events"])
    end = get(nextToken=forth["nextForwardToken"], startFromHead=True)
    assert end["events"] == [] and end["nextForwardToken"] == forth["nextForwardToken"]
    token, seen = None, []
    while True:
        page = get(startFromHead=True, limit=333, **({"nextToken": token} if token else {}))
        if page["nextForwardToken"] == token:
            break
        seen += messages(page["events"])
        token = page["nextForwardToken"]
    assert seen == [f"a {i}" for i in range(1000)]
    span = get(startTime=base + 5, endTime=base + 25, startFromHead=True)
    assert messages(span["events"]) == ["a 0", "a 1"]
    with refused("InvalidParameterException", 400, "The specified nextToken is invalid."):
        get(nextToken="x/y")
    with refused("ResourceNotFoundException", 400, "The specified log stream does not exist."):
        logs.get_log_events(logGroupName="g", logStreamName="none")

    both = messages(filtered(logs, "g", PaginationConfig={"PageSize": 77}))
    assert both[:3] == ["b 0", "a 0", "b 1"] and len(both) == 2000
    ids = [event["eventId"] for event in filtered(logs, "g")]
    assert len(set(ids)) == 2000

    logs.delete_log_stream(logGroupName="g", logStreamName="a")
    with refused("ResourceNotFoundException", 400, "The specified log stream does not exist."):
        logs.delete_log_stream(logGroupName="g", logStreamName="a")
    assert len(filtered(logs, "g")) == 1000


def writers_are_told_what_was_not_taken():
    logs = client("logs")
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    now, day = now_ms(), 86_400_000

    def put(*times, message="m", stream="s"):
        return logs.put_log_events(logGroupName="g", logStreamName=stream, logEvents=[
            {"timestamp": time, "message": message} for time in times])

    answer = put(now - 15 * day, now - 1000, now, now + 3 * 3_600_000)
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 3}
    assert len(filtered(logs, "g")) == 2
    logs.put_retention_policy(logGroupName="g", retentionInDays=1)
    answer = put(now - 2 * day, now)
    assert answer["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 1}
    with refused("InvalidParameterException", 400, "chronological order"):
        put(now, now - 1)
    with refused("InvalidParameterException", 400, "24 hours"):
        logs.delete_retention_policy(logGroupName="g")
        put(now - 2 * day, now)
    with refused("InvalidParameterException", 400, "Log event too large"):
        put(now, message="x" * 300_000)
    with refused("ResourceNotFoundException", 400, "The specified log stream does not exist."):
        put(now, stream="none")
    assert put(*[now] * 10, message="ü" * 50_000)["nextSequenceToken"]
    page = logs.filter_log_events(logGroupName="g", filterPattern="üüü")
    assert sum(len(m.encode()) for m in messages(page["events"])) <= 1 << 20
    assert len(filtered(logs, "g", filterPattern="üüü")) == 10


def filters_choose_events():
    logs = client("logs")
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    lines = [
        "[ERROR 400] BAD REQUEST",
        "[ERROR 419] MISSING ARGUMENTS",
        "[WARN] retry later",
        '{"level": "ERROR", "ms": 120, "user": {"id": 7}}',
        '{"level": "INFO", "ms": 20, "user": null}',
    ]
    base = now_ms() - 60_000
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=[
        {"timestamp": base + i, "message": line} for i, line in enumerate(lines)])
    for pattern, expected in [
        ("ERROR", [0, 1, 3]),
        ("ERROR REQUEST", [0]),
        ("\"BAD REQUEST\"", [0]),
        ("?REQUEST ?retry", [0, 2]),
        ("ERROR -ARGUMENTS", [0, 3]),
        ("{ $.level = \"ERROR\" }", [3]),
        ("{ $.level = \"ERROR\" && $.ms > 200 }", []),
        ("{ ($.level = ERROR || $.level = INFO) && $.ms < 100 }", [4]),
        ("{ $.user.id = 7 || $.user IS NULL }", [3, 4]),
        ("{ $.level = \"*\" && $.other NOT EXISTS }", [3, 4]),
        ("", [0, 1, 2, 3, 4]),
    ]:
        found = messages(filtered(logs, "g", filterPattern=pattern, PaginationConfig={"PageSize": 2}))
        assert found == [lines[i] for i in expected], (pattern, found)
    for bad, text in [
        ("a.b", "Invalid character(s) in term 'a.b'"),
        ("{ $.a = }", "Invalid filter pattern"),
        ("[a, b]", "Invalid filter pattern"),
        ("x" * 1025, "Member must have length less than or equal to 1024"),
    ]:
        with refused("InvalidParameterException", 400, text):
            logs.filter_log_events(logGroupName="g", filterPattern=bad)
    # The newest first, when asked so.
    page = logs.filter_log_events(logGroupName="g", startFromHead=False, startTime=base, limit=2)
    assert messages(page["events"]) == [lines[4], lines[3]]
    page = logs.filter_log_events(logGroupName="g", nextToken=page["nextToken"])
    assert messages(page["events"]) == [lines[2], lines[1], lines[0]]


HANDLER = """
import json
def handler(event, context):
    print(event["say"])
    return {"group": context.log_group_name, "stream": context.log_stream_name}
"""


def functions_write_where_they_are_told():
    api, logs = client(), client("logs")
    create(api, "own", HANDLER)
    create(api, "shared-1", HANDLER, LoggingConfig={"LogGroup": "/shared"})
    create(api, "shared-2", HANDLER, LoggingConfig={
        "LogGroup": "/shared", "LogFormat": "JSON", "SystemLogLevel": "INFO"})
    assert logs.describe_log_groups()["logGroups"] == []
    own = run(api, "own", {"say": "hello from own"})
    assert own["group"] == "/aws/lambda/own"
    for name in ["shared-1", "shared-2"]:
        said = run(api, name, {"say": f"hello from {name}"})
        assert said["group"] == "/shared" and f"/{name}[$LATEST]" in said["stream"], said
    names = [g["logGroupName"] for g in logs.describe_log_groups()["logGroups"]]
    assert names == ["/aws/lambda/own", "/shared"], names
    eventually("both functions are in the shared group",
        lambda: len(filtered(logs, "/shared", filterPattern="hello")) == 2)
    eventually("the report is there", lambda: filtered(
        logs, "/aws/lambda/own", filterPattern="REPORT \"Max Memory Used\""))
    reports = filtered(logs, "/shared", filterPattern='{ $.type = "platform.report" }')
    assert len(reports) == 1 and "shared-2" in reports[0]["logStreamName"], reports
    got = logs.get_log_events(
        logGroupName="/aws/lambda/own", logStreamName=own["stream"], startFromHead=True)
    said = messages(got["events"])
    start = next(i for i, line in enumerate(said) if line.startswith("START RequestId: "))
    assert said[start + 1] == "hello from own", said

    # A deleted group comes back with the next line, empty but for it.
    logs.put_retention_policy(logGroupName="/aws/lambda/own", retentionInDays=1)
    logs.delete_log_group(logGroupName="/aws/lambda/own")
    run(api, "own", {"say": "again"})
    eventually("the group is back", lambda: any(
        g["logGroupName"] == "/aws/lambda/own" for g in logs.describe_log_groups()["logGroups"]))
    assert "hello from own" not in messages(filtered(logs, "/aws/lambda/own"))
    # The function's end is not its log's.
    api.delete_function(FunctionName="own")
    assert filtered(logs, "/aws/lambda/own", filterPattern="again")


def live_tails_tell_what_is_written():
    api, logs = client(), client("logs", config={"inject_host_prefix": False})
    create(api, "f", HANDLER)
    run(api, "f", {"say": "before the tail"})
    group = "/aws/lambda/f"
    eventually("it is there", lambda: any(
        "before the tail" in text for text in messages(filtered(logs, group))))
    answer = logs.start_live_tail(logGroupIdentifiers=[arn(group)], logEventFilterPattern="tail")
    stream = iter(answer["responseStream"])
    start = next(stream)["sessionStart"]
    assert start["logGroupIdentifiers"] == [arn(group)] and start["logEventFilterPattern"] == "tail"
    assert start["requestId"] == answer["ResponseMetadata"]["RequestId"] and start["sessionId"]
    for said in ("the first tail", "not shown", "the second tail"):
        run(api, "f", {"say": said})

    def heard(stream, count):
        until, found = time.monotonic() + 20, []
        while len(found) < count:
            assert time.monotonic() < until, found
            update = next(stream)["sessionUpdate"]
            assert update["sessionMetadata"] == {"sampled": False}
            found += update["sessionResults"]
        return found

    found = heard(stream, 2)
    assert [event["message"].strip() for event in found] == ["the first tail", "the second tail"], found
    assert {event["logGroupIdentifier"] for event in found} == {arn(group)}
    assert all(event["logStreamName"] and abs(event["timestamp"] - now_ms()) < 60_000 and
               event["ingestionTime"] >= event["timestamp"] for event in found), found
    answer["responseStream"].close()

    # Several groups, one of which comes and goes, and one stream of one.
    for name in ("a", "b"):
        logs.create_log_group(logGroupName=name)
        for part in ("x1", "y1"):
            logs.create_log_stream(logGroupName=name, logStreamName=part)

    def put(name, part, text):
        logs.put_log_events(logGroupName=name, logStreamName=part,
                            logEvents=[{"timestamp": now_ms(), "message": text}])

    both = logs.start_live_tail(logGroupIdentifiers=[arn("a"), arn("b")])["responseStream"]
    some = logs.start_live_tail(logGroupIdentifiers=[arn("a")], logStreamNamePrefixes=["x"])["responseStream"]
    both_events, some_events = iter(both), iter(some)
    next(both_events)
    assert next(some_events)["sessionStart"]["logStreamNamePrefixes"] == ["x"]
    put("a", "y1", "one")
    put("a", "x1", "two")
    put("b", "x1", "three")
    assert sorted(messages(heard(both_events, 3))) == ["one", "three", "two"]
    assert messages(heard(some_events, 1)) == ["two"]
    logs.delete_log_group(logGroupName="a")
    assert next(both_events)["sessionUpdate"]["sessionResults"] == []
    put("b", "x1", "four")
    assert messages(heard(both_events, 1)) == ["four"]
    some.close()
    both.close()

    with refused("ResourceNotFoundException", 400, "The specified log group does not exist."):
        logs.start_live_tail(logGroupIdentifiers=[arn("nobody")])
    with refused("InvalidParameterException", 400, "mutually exclusive"):
        logs.start_live_tail(logGroupIdentifiers=[arn("b")], logStreamNames=["x"], logStreamNamePrefixes=["x"])
    with refused("InvalidParameterException", 400, "asterisk"):
        logs.start_live_tail(logGroupIdentifiers=[arn("b") + ":*"])
    # Each has a connection of its own, so that none is waited for.
    open_ones = [client("logs", config={"inject_host_prefix": False}).start_live_tail(
        logGroupIdentifiers=[arn("b")])["responseStream"] for _ in range(13)]

    def full():
        try:
            open_ones.append(client("logs", config={"inject_host_prefix": False}).start_live_tail(
                logGroupIdentifiers=[arn("b")])["responseStream"])
            return False
        except logs.exceptions.LimitExceededException:
            return True

    eventually("fifteen are all", full)
    assert len(open_ones) <= 15, len(open_ones)
    open_ones.pop().close()

    def room():
        try:
            open_ones.append(logs.start_live_tail(logGroupIdentifiers=[arn("b")])["responseStream"])
            return True
        except logs.exceptions.LimitExceededException:
            return False

    eventually("the place of one that went is free", room)


def the_cli_follows_a_log():
    """`aws logs tail` of the CLI's second version, as Debian packages it."""
    # Older ones of that version do not know the endpoint's variable.
    aws = [os.environ["LAMU_TEST_AWS2"], "--endpoint-url", os.environ["AWS_ENDPOINT_URL"]]
    api = client()
    create(api, "f", HANDLER)
    run(api, "f", {"say": "before the tail"})
    tail = subprocess.run(
        [*aws, "logs", "tail", "/aws/lambda/f", "--format", "short"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert tail.returncode == 0, tail
    assert "before the tail" in tail.stdout and "REPORT RequestId" in tail.stdout, tail
    chosen = subprocess.run(
        [*aws, "logs", "tail", "/aws/lambda/f", "--filter-pattern", "before -REPORT", "--since", "5m"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert [line.split(" ", 2)[2] for line in chosen.stdout.splitlines()] == ["before the tail"], chosen

    follow = subprocess.Popen(
        [*aws, "logs", "tail", "/aws/lambda/f", "--follow", "--format", "short"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    heard = []
    reader = threading.Thread(target=lambda: heard.extend(iter(follow.stdout.readline, "")))
    reader.start()
    try:
        eventually("what was there is shown", lambda: any("before the tail" in l for l in heard))
        run(api, "f", {"say": "while it follows"})
        eventually("what comes is shown", lambda: any("while it follows" in l for l in heard))
    finally:
        follow.send_signal(signal.SIGINT)
        follow.wait(20)
        reader.join(20)
    assert sum("before the tail" in line for line in heard) == 1, heard


def the_older_cli_asks_too():
    """The CLI of the tests' own environment has no `tail`."""
    api = client()
    create(api, "f", HANDLER)
    run(api, "f", {"say": "for the older one"})
    aws = os.path.join(os.path.dirname(sys.executable), "aws")

    def ask(*words):
        done = subprocess.run([aws, "logs", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done
        return done.stdout

    assert "/aws/lambda/f" in ask("describe-log-groups", "--log-group-name-prefix", "/aws/lambda/")
    assert "for the older one" in ask(
        "filter-log-events", "--log-group-name", "/aws/lambda/f", "--filter-pattern", "older")
    stream = ask(
        "describe-log-streams", "--log-group-name", "/aws/lambda/f", "--order-by", "LastEventTime",
        "--descending", "--max-items", "1", "--query", "logStreams[0].logStreamName", "--output", "text")
    assert "for the older one" in ask(
        "get-log-events", "--log-group-name", "/aws/lambda/f", "--log-stream-name", stream.split()[0])
    ask("put-retention-policy", "--log-group-name", "/aws/lambda/f", "--retention-in-days", "3")
    ask("delete-log-group", "--log-group-name", "/aws/lambda/f")
    assert "/aws/lambda/f" not in ask("describe-log-groups")


CHATTY = """
def handler(event, context):
    for line in range(2_000):
        print(f"line {event['call']:04} {line:06} " + "x" * 60)
"""


def settings_before_the_kill():
    api, logs = client(), client("logs")
    create(api, "f", CHATTY, Timeout=30)
    logs.create_log_group(logGroupName="/kept", tags={"a": "b"})
    logs.put_retention_policy(logGroupName="/kept", retentionInDays=30)
    logs.create_log_stream(logGroupName="/kept", logStreamName="empty")
    logs.create_log_group(logGroupName="/gone")
    logs.delete_log_group(logGroupName="/gone")
    run(api, "f", {"call": 0})
    assert len(filtered(logs, "/aws/lambda/f", filterPattern="line")) == 2_000


def writing_until_the_kill():
    api = client()
    call = 1
    while True:
        try:
            run(api, "f", {"call": call})
        except Exception as error:
            # The end that the test is about.
            print("ended in call", call, type(error).__name__)
            return
        call += 1
        # Below 20 MiB a second, above which a function loses lines by design.
        time.sleep(0.1)


def everything_after_the_kill():
    api, logs = client(), client("logs")
    kept = logs.describe_log_groups(logGroupNamePrefix="/kept")["logGroups"][0]
    assert kept["retentionInDays"] == 30
    assert logs.list_tags_for_resource(resourceArn=arn("/kept"))["tags"] == {"a": "b"}
    assert logs.describe_log_streams(logGroupName="/kept")["logStreams"][0]["logStreamName"] == "empty"
    assert logs.describe_log_groups(logGroupNamePrefix="/gone")["logGroups"] == []
    seen = messages(filtered(logs, "/aws/lambda/f", filterPattern="line"))
    assert len(seen) >= 2_000
    whole = re.compile(r"line (\d{4}) (\d{6}) x{60}")
    calls = {}
    for line in seen:
        match = whole.fullmatch(line)
        assert match, f"half a line: {line!r}"
        calls.setdefault(match[1], []).append(int(match[2]))
    assert calls["0000"] == list(range(2_000))
    for lines in calls.values():
        gap = next((at for at, line in enumerate(lines) if at != line), None)
        assert gap is None, f"only the end may be missing: {lines[max(0, gap - 3):gap + 5]} of {len(lines)}"
    run(api, "f", {"call": 9999})
    eventually("writing goes on", lambda: len(
        filtered(logs, "/aws/lambda/f", filterPattern="\"line 9999\"")) == 2_000)


def a_full_disk_costs_logs_only():
    api, logs = client(), client("logs")
    create(api, "first", CHATTY, Timeout=30)
    create(api, "f", CHATTY, Timeout=30)
    run(api, "first", {"call": 1})
    # Several times what the disk holds.
    for i in range(40):
        run(api, "f", {"call": i})
    last = messages(filtered(logs, "/aws/lambda/f", filterPattern="\"line 0039\""))
    assert last and last[-1].startswith("line 0039 001999"), "the newest is kept"
    text = urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/metrics").read().decode()
    figure = lambda name: float(re.search(rf"^{name} (\S+)$", text, re.M)[1])
    assert figure("lamu_log_dropped_bytes_total") > 0, text
    assert figure("lamu_log_bytes") <= 2 << 20, text


if __name__ == "__main__":
    main(globals())
