"""What is made before lamu is killed, and must be there after the next start."""

from common import call, client, create, main, pack, run, settle

CODE = "def handler(event, context):\n    return [%d, context.function_version]\n"


def made():
    api = client()
    create(api, "kept", CODE % 1, Environment={"Variables": {"KEY": "1"}}, Tags={"t": "1"})
    api.publish_version(FunctionName="kept")
    api.update_function_code(FunctionName="kept", ZipFile=pack({"app.py": CODE % 2}))
    settle(api, "kept")
    api.publish_version(FunctionName="kept")
    api.create_alias(FunctionName="kept", Name="prod", FunctionVersion="1",
                     RoutingConfig={"AdditionalVersionWeights": {"2": 0.25}})
    api.put_function_concurrency(FunctionName="kept", ReservedConcurrentExecutions=7)
    assert run(api, "kept") == [2, "$LATEST"]
    create(api, "sleeper", "import time\ndef handler(event, context):\n    time.sleep(event['s'])\n", Timeout=60)
    create(api, "slow-init", "import time\ntime.sleep(8)\ndef handler(event, context):\n    return 1\n", Timeout=60)


def still_there():
    api = client()
    got = api.get_function(FunctionName="kept")
    assert got["Configuration"]["Environment"] == {"Variables": {"KEY": "1"}}
    assert got["Configuration"]["State"] == "Active" and got["Tags"] == {"t": "1"}
    assert got["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    versions = api.list_versions_by_function(FunctionName="kept")["Versions"]
    assert [v["Version"] for v in versions] == ["$LATEST", "1", "2"]
    alias = api.get_alias(FunctionName="kept", Name="prod")
    assert alias["FunctionVersion"] == "1"
    assert alias["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.25}}
    assert run(api, "kept") == [2, "$LATEST"]
    assert run(api, "kept", Qualifier="1") == [1, "1"]
    assert run(api, "kept", Qualifier="2") == [2, "2"]
    # Numbers go on where they were.
    api.update_function_code(FunctionName="kept", ZipFile=pack({"app.py": CODE % 3}))
    settle(api, "kept")
    assert api.publish_version(FunctionName="kept")["Version"] == "3"
    # Whatever was under way when it was killed has settled or never was.
    for function in api.list_functions()["Functions"]:
        settle(api, function["FunctionName"])


def churn():
    api = client()
    for i in range(10_000):
        name = f"churn-{i % 7}"
        try:
            create(api, name, CODE % i)
            call(api, name)
            api.delete_function(FunctionName=name)
        except api.exceptions.ResourceConflictException:
            api.delete_function(FunctionName=name)


main(globals())
