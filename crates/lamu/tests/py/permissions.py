"""Policies: kept, shown, and enforced between principals and accounts."""

import json
import os
import threading
import urllib.error
import urllib.request

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from common import ACCOUNT, call, client, create, main, pack, refused, run, settle

HOME, THERE = "111111111111", "222222222222"
ECHO = "def handler(event, context):\n    return event\n"


def by(key, service="lambda"):
    return client(service, aws_access_key_id=key, aws_secret_access_key="s", region_name="us-east-1")


def arn(name, account=HOME):
    return f"arn:aws:lambda:us-east-1:{account}:function:{name}"


def no(who, action, on, why="because no identity-based policy allows the {} action"):
    """The refusal of IAM, whole."""
    text = f"User: arn:aws:{who} is not authorized to perform: {action} on resource: {on} {why.format(action)}"
    return refused("AccessDeniedException", 403, text)


RESOURCE = "because no resource-based policy allows the {} action"
DENY_IDENTITY = "with an explicit deny in an identity-based policy"
DENY_RESOURCE = "with an explicit deny in a resource-based policy"


def share(api, name, sid, principal, action="lambda:InvokeFunction", **more):
    return api.add_permission(
        FunctionName=name, StatementId=sid, Principal=principal, Action=action, **more)


def document(api, name, **more):
    got = api.get_policy(FunctionName=name, **more)
    return json.loads(got["Policy"]), got["RevisionId"]


def policies_without_keys():
    api = client()
    create(api, "f", ECHO, Publish=True)
    api.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    mine = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f"
    with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
        api.get_policy(FunctionName="f")
    share(api, "f", "s1", "s3.amazonaws.com", SourceArn="arn:aws:s3:::bucket", SourceAccount=HOME)
    share(api, "f:prod", "s1", "*", PrincipalOrgID="o-a1b2c3d4e5")
    share(api, "f", "s1", HOME, Qualifier="1")
    policy, revision = document(api, "f")
    assert policy == {"Version": "2012-10-17", "Id": "default", "Statement": [{
        "Sid": "s1", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction", "Resource": mine,
        "Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"},
                      "StringEquals": {"AWS:SourceAccount": HOME}}}]}, policy
    assert revision == api.get_function_configuration(FunctionName="f")["RevisionId"]
    policy, revision = document(api, "f", Qualifier="prod")
    assert policy["Statement"][0]["Resource"] == f"{mine}:prod"
    assert policy["Statement"][0]["Principal"] == "*"
    assert revision == api.get_alias(FunctionName="f", Name="prod")["RevisionId"]
    policy, _ = document(api, "f", Qualifier="1")
    assert policy["Statement"][0]["Principal"] == {"AWS": f"arn:aws:iam::{HOME}:root"}
    # Nothing is refused within an account, whatever the policy says.
    deny = json.dumps({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": mine}]})
    put = api.put_resource_policy(ResourceArn=mine, Policy=deny)
    got = api.get_resource_policy(ResourceArn=mine)
    assert (got["Policy"], got["RevisionId"]) == (put["Policy"], put["RevisionId"])
    assert run(api, "f", 7) == 7
    # What belongs to another account needs its policy here too.
    other = client(aws_access_key_id=HOME, aws_secret_access_key="test")
    with no(f"iam::{HOME}:root", "lambda:InvokeFunction", mine, DENY_RESOURCE):
        call(other, mine)
    api.delete_resource_policy(ResourceArn=mine)
    with no(f"iam::{HOME}:root", "lambda:InvokeFunction", mine, RESOURCE):
        call(other, mine)
    assert run(other, f"{mine}:1", 7) == 7
    share(api, "f", "s2", HOME)
    assert run(other, mine, 7) == 7
    for sid, more in [("s2", {}), ("s1", {"Qualifier": "1"}), ("s1", {"Qualifier": "prod"})]:
        api.remove_permission(FunctionName="f", StatementId=sid, **more)
        with refused("ResourceNotFoundException", 404, "No policy is associated with the given resource."):
            api.remove_permission(FunctionName="f", StatementId=sid, **more)


def a_policy_of_every_principal_and_condition():
    api = client()
    create(api, "f", ECHO)
    account = f"arn:aws:iam::{HOME}:root"
    role = f"arn:aws:iam::{HOME}:role/r"
    for sid, principal, shown in [
        ("any", "*", "*"),
        ("account", HOME, {"AWS": account}),
        ("root", account, {"AWS": account}),
        ("role", role, {"AWS": role}),
        ("service", "apigateway.amazonaws.com", {"Service": "apigateway.amazonaws.com"}),
    ]:
        made = json.loads(share(api, "f", sid, principal)["Statement"])
        assert made["Principal"] == shown, made
    for sid, action, members, condition in [
        ("token", "lambda:InvokeFunction", {"EventSourceToken": "t.1"},
         {"StringEquals": {"lambda:EventSourceToken": "t.1"}}),
        ("url", "lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"},
         {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}),
        ("via", "lambda:InvokeFunction", {"InvokedViaFunctionUrl": True},
         {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
    ]:
        made = json.loads(share(api, "f", sid, "*", action, **members)["Statement"])
        assert made["Condition"] == condition, made
    policy, _ = document(api, "f")
    assert [one["Sid"] for one in policy["Statement"]] == [
        "any", "account", "root", "role", "service", "token", "url", "via"]
    for principal in ["s3", "12345", "arn:aws:s3:::bucket", f"arn:aws:iam::{HOME}:group/g"]:
        with refused("InvalidParameterValueException", 400,
                     "The provided principal was invalid. Please check the principal and try again."):
            share(api, "f", "bad", principal)
    with refused("InvalidParameterValueException", 400, "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action"):
        share(api, "f", "bad", "*", FunctionUrlAuthType="NONE")
    with refused("InvalidParameterValueException", 400, "We currently do not support adding policies for $LATEST."):
        share(api, "f", "bad", "*", Qualifier="$LATEST")
    with refused("ResourceConflictException", 409, "The statement id (any) provided already exists. Please provide a new statement id, or remove the existing statement."):
        share(api, "f", "any", "*")
    with refused("ResourceNotFoundException", 404, "Cannot find alias arn: arn:aws:lambda:us-east-1:000000000000:function:f:dev"):
        share(api, "f", "bad", "*", Qualifier="dev")
    with refused("ResourceNotFoundException", 404, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:absent"):
        share(api, "absent", "bad", "*")
    with refused("ResourceNotFoundException", 404, "No policy found for: arn:aws:lambda:us-east-1:000000000000:function:absent"):
        api.remove_permission(FunctionName="absent", StatementId="bad")
    with refused("ResourceNotFoundException", 404, "Statement bad is not found in resource policy."):
        api.remove_permission(FunctionName="f", StatementId="bad")


def overflow_and_revisions():
    api = client()
    create(api, "f", ECHO)
    count = 0
    try:
        while count < 500:
            share(api, "f", f"statement-{count:080}", "s3.amazonaws.com")
            count += 1
        raise AssertionError("it has no end")
    except api.exceptions.PolicyLengthExceededException as error:
        message = error.response["Error"]["Message"] or error.response["message"]
        assert message.startswith("The final policy size (2"), message
        assert message.endswith(") is bigger than the limit (20480)."), message
    policy, revision = document(api, "f")
    assert len(policy["Statement"]) == count
    api.remove_permission(FunctionName="f", StatementId=f"statement-{0:080}", RevisionId=revision)
    text = "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id"
    with refused("PreconditionFailedException", 412, text):
        share(api, "f", "late", "s3.amazonaws.com", RevisionId=revision)
    with refused("PreconditionFailedException", 412, text):
        api.remove_permission(FunctionName="f", StatementId=f"statement-{1:080}", RevisionId=revision)
    _, revision = document(api, "f")
    share(api, "f", "right", "s3.amazonaws.com", RevisionId=revision)
    assert len(document(api, "f")[0]["Statement"]) == count


def a_storm_of_permissions():
    api = client()
    create(api, "f", ECHO)
    _, revision = share(api, "f", "first", "s3.amazonaws.com"), document(api, "f")[1]
    won, kept, wrong = [], [], []

    def work(number):
        mine = client()
        try:
            share(mine, "f", f"race-{number}", HOME, RevisionId=revision)
            won.append(f"race-{number}")
        except mine.exceptions.PreconditionFailedException:
            pass
        for at in range(5):
            try:
                share(mine, "f", f"w{number}-{at}", HOME)
                kept.append(f"w{number}-{at}")
                if at == 2:
                    mine.remove_permission(FunctionName="f", StatementId=f"w{number}-{at}")
                    kept.remove(f"w{number}-{at}")
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert len(won) <= 1, won
    sids = [one["Sid"] for one in document(api, "f")[0]["Statement"]]
    assert sorted(sids) == sorted(["first"] + won + kept), (sids, won, kept)
    assert len(kept) == 8 * 4


def identity_policies_decide_at_home():
    root, alice, nobody, reader, deployer = map(by, ["ROOT1", "ALICE", "NOBODY", "READER", "DEPLOYER"])
    create(root, "f", ECHO)
    create(root, "secret-1", ECHO)
    assert run(alice, "f", 1) == 1
    with no(f"iam::{HOME}:user/alice", "lambda:InvokeFunction", arn("secret-1"), DENY_IDENTITY):
        call(alice, "secret-1")
    for ask, action, on in [
        (lambda: call(nobody, "f"), "lambda:InvokeFunction", arn("f")),
        (lambda: nobody.get_function(FunctionName="f", Qualifier="$LATEST"), "lambda:GetFunction", arn("f:$LATEST")),
        (lambda: nobody.list_functions(), "lambda:ListFunctions", "*"),
        (lambda: nobody.get_function(FunctionName="absent"), "lambda:GetFunction", arn("absent")),
        (lambda: nobody.list_tags(Resource=arn("f")), "lambda:ListTags", arn("f")),
        (lambda: nobody.create_alias(FunctionName="f", Name="a", FunctionVersion="$LATEST"), "lambda:CreateAlias", arn("f")),
        (lambda: nobody.delete_layer_version(LayerName="l", VersionNumber=3), "lambda:DeleteLayerVersion",
         f"arn:aws:lambda:us-east-1:{HOME}:layer:l:3"),
    ]:
        with no(f"iam::{HOME}:user/nobody", action, on):
            ask()
    assert [one["FunctionName"] for one in reader.list_functions()["Functions"]] == ["f", "secret-1"]
    assert reader.get_function(FunctionName="f")["Configuration"]["FunctionName"] == "f"
    with no(f"iam::{HOME}:user/reader", "lambda:InvokeFunction", arn("f")):
        call(reader, "f")
    with no(f"iam::{HOME}:user/reader", "lambda:DeleteFunction", arn("f")):
        reader.delete_function(FunctionName="f")
    # A role with paths, tags, PassRole and conditions on what is asked.
    me = f"sts::{HOME}:assumed-role/deployer/DEPLOYER"
    create(deployer, "ci-1", ECHO)
    with no(me, "lambda:CreateFunction", arn("other")):
        create(deployer, "other", ECHO)
    with no(me, "iam:PassRole", f"arn:aws:iam::{HOME}:role/admin"):
        deployer.create_function(
            FunctionName="ci-2", Runtime="python3.12", Handler="app.handler",
            Role=f"arn:aws:iam::{HOME}:role/admin", Code={"ZipFile": pack({"app.py": ECHO})})
    with no(me, "lambda:UpdateFunctionConfiguration", arn("ci-1")):
        deployer.update_function_configuration(FunctionName="ci-1", Timeout=9)
    deployer.tag_resource(Resource=arn("ci-1"), Tags={"owner": "ci"})
    deployer.update_function_configuration(FunctionName="ci-1", Timeout=9)
    settle(deployer, "ci-1")
    with no(me, "lambda:UpdateFunctionConfiguration", arn("ci-1")):
        deployer.update_function_configuration(
            FunctionName="ci-1", Layers=[f"arn:aws:lambda:us-east-1:{THERE}:layer:l:1"])
    share(deployer, "ci-1", "s3", "s3.amazonaws.com")
    with no(me, "lambda:AddPermission", arn("ci-1")):
        share(deployer, "ci-1", "all", "*")
    # A function's policy can let in who has none of their own.
    share(root, "f", "nobody", f"arn:aws:iam::{HOME}:user/nobody")
    assert run(nobody, "f", 2) == 2
    share(root, "ci-1", "role", f"arn:aws:iam::{HOME}:role/ci/deployer")
    assert run(deployer, "ci-1", 3) == 3
    # But naming the account leaves it to the account's own policies.
    root.remove_permission(FunctionName="f", StatementId="nobody")
    share(root, "f", "account", HOME)
    with no(f"iam::{HOME}:user/nobody", "lambda:InvokeFunction", arn("f")):
        call(nobody, "f")


def another_account_needs_both_policies():
    root, other, bob = map(by, ["ROOT1", "ROOT2", "BOB"])
    create(root, "f", ECHO, Publish=True)
    create(root, "g", ECHO)
    root.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    for form in [arn("f"), f"{HOME}:function:f", f"us-east-1:{HOME}:function:f"]:
        with no(f"iam::{THERE}:root", "lambda:InvokeFunction", arn("f"), RESOURCE):
            call(other, form)
        with no(f"iam::{THERE}:user/bob", "lambda:InvokeFunction", arn("f"), RESOURCE):
            call(bob, form)
    # What is there and what is not look the same from outside.
    with no(f"iam::{THERE}:root", "lambda:InvokeFunction", arn("absent"), RESOURCE):
        call(other, arn("absent"))
    with refused("ResourceNotFoundException", 404, f":{THERE}:function:f"):
        call(other, "f")
    share(root, "f", "account", THERE)
    assert run(other, arn("f"), 1) == 1
    assert run(bob, arn("f"), 2) == 2
    assert call(bob, arn("f"), InvocationType="DryRun")["StatusCode"] == 204
    share(root, "g", "account", THERE)
    assert run(other, arn("g"), 3) == 3
    with no(f"iam::{THERE}:user/bob", "lambda:InvokeFunction", arn("g")):
        call(bob, arn("g"))
    with no(f"iam::{THERE}:root", "lambda:GetFunction", arn("f"), RESOURCE):
        other.get_function(FunctionName=arn("f"))
    # Each qualifier has its own policy.
    for qualifier in ["prod", "1", "$LATEST"]:
        with no(f"iam::{THERE}:root", "lambda:InvokeFunction", arn(f"f:{qualifier}"), RESOURCE):
            call(other, arn("f"), Qualifier=qualifier)
    share(root, "f", "account", THERE, Qualifier="prod")
    assert run(other, arn("f:prod"), 4) == 4
    assert run(other, arn("f"), 5, Qualifier="prod") == 5
    with no(f"iam::{THERE}:root", "lambda:InvokeFunction", arn("f:1"), RESOURCE):
        call(other, arn("f:1"))
    root.delete_alias(FunctionName="f", Name="prod")
    root.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    with no(f"iam::{THERE}:root", "lambda:InvokeFunction", arn("f:prod"), RESOURCE):
        call(other, arn("f:prod"))
    # Other operations too, acting in the owner's account.
    share(root, "f", "read", f"arn:aws:iam::{THERE}:root", "lambda:*")
    assert other.get_function(FunctionName=arn("f"))["Configuration"]["FunctionArn"] == arn("f")
    share(other, arn("f"), "theirs", "s3.amazonaws.com")
    assert "theirs" in [one["Sid"] for one in document(root, "f")[0]["Statement"]]
    assert other.list_functions()["Functions"] == []
    # To everyone of an organization, and of no other.
    share(root, "g", "organization", "*", PrincipalOrgID="o-a1b2c3d4e5")
    root.remove_permission(FunctionName="g", StatementId="account")
    assert run(other, arn("g"), 6) == 6
    root.remove_permission(FunctionName="g", StatementId="organization")
    share(root, "g", "organization", "*", PrincipalOrgID="o-zzzzzzzzzz")
    with no(f"iam::{THERE}:root", "lambda:InvokeFunction", arn("g"), RESOURCE):
        call(other, arn("g"))
    root.delete_function(FunctionName="f")
    create(root, "f", ECHO)
    with no(f"iam::{THERE}:root", "lambda:InvokeFunction", arn("f"), RESOURCE):
        call(other, arn("f"))


def what_a_resource_policy_denies_stays_denied():
    root, alice, other = map(by, ["ROOT1", "ALICE", "ROOT2"])
    create(root, "f", ECHO)
    policy = {"Version": "2012-10-17", "Statement": [
        {"Sid": "all", "Effect": "Allow", "Principal": "*", "Action": "lambda:Invoke*", "Resource": arn("f")},
        {"Sid": "not-alice", "Effect": "Deny", "Principal": {"AWS": f"arn:aws:iam::{HOME}:user/alice"},
         "Action": "lambda:InvokeFunction", "Resource": arn("f")}]}
    made = root.put_resource_policy(ResourceArn=arn("f"), Policy=json.dumps(policy))
    assert json.loads(made["Policy"]) == policy
    with no(f"iam::{HOME}:user/alice", "lambda:InvokeFunction", arn("f"), DENY_RESOURCE):
        call(alice, "f")
    assert run(root, "f", 1) == 1
    assert run(other, arn("f"), 2) == 2
    policy["Statement"][1]["Principal"] = "*"
    root.put_resource_policy(ResourceArn=arn("f"), Policy=json.dumps(policy), RevisionId=made["RevisionId"])
    with no(f"iam::{HOME}:root", "lambda:InvokeFunction", arn("f"), DENY_RESOURCE):
        call(root, "f")
    with refused("PreconditionFailedException", 412):
        root.delete_resource_policy(ResourceArn=arn("f"), RevisionId=made["RevisionId"])
    root.delete_resource_policy(ResourceArn=arn("f"))
    assert run(root, "f", 3) == 3
    policy["Statement"][0]["Effect"] = "Maybe"
    with refused("InvalidParameterValueException", 400, "statement 1: Effect must be"):
        root.put_resource_policy(ResourceArn=arn("f"), Policy=json.dumps(policy))


def logs_are_part_of_what_is_allowed():
    root = by("ROOT1")
    create(root, "f", "def handler(event, context):\n    print('said')\n")
    run(root, "f")
    group = "/aws/lambda/f"

    def read(key):
        return by(key, "logs").filter_log_events(logGroupName=group)["events"]

    assert any("said" in event["message"] for event in read("ROOT1"))
    assert any("said" in event["message"] for event in read("READER"))
    where = f"arn:aws:logs:us-east-1:{HOME}:log-group:{group}:log-stream:"
    with refused("AccessDeniedException", 400, f"User: arn:aws:iam::{HOME}:user/nobody is not authorized to perform: logs:FilterLogEvents on resource: {where} because no identity-based policy allows the logs:FilterLogEvents action"):
        read("NOBODY")
    with refused("AccessDeniedException", 400, "logs:DescribeLogGroups"):
        by("BOB", "logs").describe_log_groups()


def logs_as_text(key, operation, body):
    """Signed, but written by hand as no client would."""
    request = AWSRequest(
        method="POST", url=os.environ["AWS_ENDPOINT_URL_LAMBDA"] + "/", data=body,
        headers={"X-Amz-Target": f"Logs_20140328.{operation}", "Content-Type": "application/x-amz-json-1.1"})
    SigV4Auth(Credentials(key, "s"), "logs", "us-east-1").add_auth(request)
    sent = urllib.request.Request(request.url, body.encode(), dict(request.headers), method="POST")
    try:
        with urllib.request.urlopen(sent) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def another_name_passes_no_refusal():
    root, alice = by("ROOT1"), by("ALICE")
    create(root, "secret-f", "def handler(event, context):\n    print('said')\n", Publish=True)
    run(root, "secret-f")
    group = "/aws/lambda/secret-f"
    own = f"arn:aws:logs:us-east-1:{HOME}:log-group:{group}"
    plain = json.dumps({"logGroupName": group})
    status, text = logs_as_text("ROOT1", "FilterLogEvents", plain)
    assert status == 200 and "said" in text, text
    for body, code in [
        (plain, "AccessDeniedException"),
        (json.dumps({"logGroupName": group, "logStreamName": "s"}), "AccessDeniedException"),
        (json.dumps({"logGroupIdentifier": own}), "AccessDeniedException"),
        (json.dumps({"logGroupIdentifier": f"{own}:*"}), "AccessDeniedException"),
        (plain[:-1] + ', "x": 1e999}', "SerializationException"),
        (json.dumps([group]), "SerializationException"),
        (json.dumps({"logGroupIdentifier": f"arn:x:log-group:{group}"}), "ResourceNotFoundException"),
    ]:
        status, text = logs_as_text("ALICE", "FilterLogEvents", body)
        assert (status, json.loads(text)["__type"]) == (400, code), (body, status, text)

    # A qualifier that the list of a whole function does not read.
    create(root, "f", ECHO)
    deny = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Principal": {"AWS": f"arn:aws:iam::{HOME}:user/alice"},
         "Action": "lambda:*", "Resource": arn("f")}]}
    root.put_resource_policy(ResourceArn=arn("f"), Policy=json.dumps(deny))
    with no(f"iam::{HOME}:user/alice", "lambda:ListVersionsByFunction", arn("f"), DENY_RESOURCE):
        alice.list_versions_by_function(FunctionName="f:any")
    # $LATEST is the function by another name.
    with no(f"iam::{HOME}:user/alice", "lambda:InvokeFunction", arn("f:$LATEST"), DENY_RESOURCE):
        call(alice, "f", Qualifier="$LATEST")
    with no(f"iam::{HOME}:user/alice", "lambda:GetFunction", arn("f:$LATEST"), DENY_RESOURCE):
        alice.get_function(FunctionName="f", Qualifier="$LATEST")
    with refused("InvalidParameterValueException", 400, "We currently do not support adding policies for $LATEST."):
        root.delete_resource_policy(ResourceArn=arn("f:$LATEST"))
    assert run(root, "f", 1, Qualifier="$LATEST") == 1


def layers_are_shared_between_accounts():
    root, other, bob, nobody = map(by, ["ROOT1", "ROOT2", "BOB", "NOBODY"])
    zipped = pack({"python/shared.py": "VALUE = 'from the layer'\n"})
    made = root.publish_layer_version(LayerName="l", Content={"ZipFile": zipped})
    version, layer = made["LayerVersionArn"], made["LayerArn"]
    code = "import shared\ndef handler(event, context):\n    return shared.VALUE\n"
    for ask in [
        lambda: other.get_layer_version(LayerName=layer, VersionNumber=1),
        lambda: other.get_layer_version_by_arn(Arn=version),
        lambda: create(other, "f", code, Layers=[version]),
    ]:
        with no(f"iam::{THERE}:root", "lambda:GetLayerVersion", version, RESOURCE):
            ask()
    with no(f"iam::{THERE}:root", "lambda:GetLayerVersion", f"{layer}:9", RESOURCE):
        other.get_layer_version_by_arn(Arn=f"{layer}:9")
    shared = root.add_layer_version_permission(
        LayerName="l", VersionNumber=1, StatementId="s", Action="lambda:GetLayerVersion", Principal=THERE)
    assert json.loads(shared["Statement"])["Principal"] == {"AWS": f"arn:aws:iam::{THERE}:root"}
    got = root.get_layer_version_policy(LayerName="l", VersionNumber=1)
    assert got["RevisionId"] == shared["RevisionId"]
    assert other.get_layer_version(LayerName=layer, VersionNumber=1)["LayerVersionArn"] == version
    assert other.get_layer_version_by_arn(Arn=version)["LayerVersionArn"] == version
    create(other, "f", code, Layers=[version])
    assert run(other, "f") == "from the layer"
    with no(f"iam::{THERE}:user/bob", "lambda:GetLayerVersion", version):
        bob.get_layer_version_by_arn(Arn=version)
    for ask, action in [
        (lambda: other.delete_layer_version(LayerName=layer, VersionNumber=1), "lambda:DeleteLayerVersion"),
        (lambda: other.get_layer_version_policy(LayerName=layer, VersionNumber=1), "lambda:GetLayerVersionPolicy"),
        (lambda: other.add_layer_version_permission(
            LayerName=layer, VersionNumber=1, StatementId="t", Action="lambda:GetLayerVersion", Principal="*"),
         "lambda:AddLayerVersionPermission"),
    ]:
        with no(f"iam::{THERE}:root", action, version, RESOURCE):
            ask()
    with no(f"iam::{HOME}:user/nobody", "lambda:GetLayerVersion", version):
        nobody.get_layer_version_by_arn(Arn=version)
    with refused("PreconditionFailedException", 412, "Call the GetLayerPolicy API to retrieve the latest Revision Id"):
        root.remove_layer_version_permission(
            LayerName="l", VersionNumber=1, StatementId="s", RevisionId="00000000-0000-4000-8000-000000000000")
    root.remove_layer_version_permission(
        LayerName="l", VersionNumber=1, StatementId="s", RevisionId=shared["RevisionId"])
    with refused("ResourceNotFoundException", 404, "No policy is associated with the given resource."):
        root.get_layer_version_policy(LayerName="l", VersionNumber=1)
    # What has it keeps it; nobody takes it anew.
    assert run(other, "f") == "from the layer"
    with no(f"iam::{THERE}:root", "lambda:GetLayerVersion", version, RESOURCE):
        other.update_function_configuration(FunctionName="f", Layers=[version])


def shared_before_a_kill():
    root = by("ROOT1")
    create(root, "f", ECHO, Publish=True)
    root.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    for more in [{}, {"Qualifier": "1"}, {"Qualifier": "prod"}]:
        share(root, "f", "kept", THERE, **more)
        share(root, "f", "gone", "*", **more)
        root.remove_permission(FunctionName="f", StatementId="gone", **more)


def shared_after_a_kill():
    root, other = by("ROOT1"), by("ROOT2")
    for more in [{}, {"Qualifier": "1"}, {"Qualifier": "prod"}]:
        sids = [one["Sid"] for one in document(root, "f", **more)[0]["Statement"]]
        assert sids == ["kept"], (more, sids)
        assert run(other, arn("f"), 1, **more) == 1


def public_policies_are_blocked():
    api = client()
    create(api, "f", ECHO)
    text = "Lambda prevented your policy from being created because it would grant public access to your function."
    with refused("PublicPolicyException", 400, text):
        share(api, "f", "all", "*")
    with refused("PublicPolicyException", 400, text):
        share(api, "f", "url", "*", "lambda:InvokeFunctionUrl", FunctionUrlAuthType="NONE")
    mine = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f"
    policy = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "lambda:*", "Resource": mine}]}
    with refused("PublicPolicyException", 400, text):
        api.put_resource_policy(ResourceArn=mine, Policy=json.dumps(policy))
    share(api, "f", "account", HOME)
    share(api, "f", "organization", "*", PrincipalOrgID="o-a1b2c3d4e5")
    policy["Statement"][0]["Condition"] = {"StringEquals": {"aws:SourceAccount": HOME}}
    api.put_resource_policy(ResourceArn=mine, Policy=json.dumps(policy))


main(globals())
