"""Event source mappings through boto3, while nobody polls."""

from common import ACCOUNT, REGION, client, create, main, refused

ECHO = "def handler(event, context):\n    return event\n"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:q"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"
TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t/stream/1"
INVALID = "InvalidParameterValueException"


def a_source_nobody_polls_is_refused():
    api = client()
    create(api, "f", ECHO)
    for source, more, title in [
        (QUEUE, {}, "Amazon SQS"),
        (STREAM, {"StartingPosition": "TRIM_HORIZON"}, "Amazon Kinesis"),
        (TABLE, {"StartingPosition": "LATEST"}, "Amazon DynamoDB Streams"),
    ]:
        with refused(INVALID, 400, title):
            api.create_event_source_mapping(FunctionName="f", EventSourceArn=source, **more)
    assert api.list_event_source_mappings()["EventSourceMappings"] == []


def wrong_mappings_get_lambdas_words():
    api = client()
    create(api, "f", ECHO)
    for text, ask in [
        ("Function does not exist", {"FunctionName": "absent", "EventSourceArn": QUEUE}),
        ("Unrecognized event source.", {}),
        ("Unrecognized event source.", {"EventSourceArn": "arn:aws:s3:::bucket"}),
        ("Member must not be null.", {"EventSourceArn": STREAM}),
        (f"Unsupported starting position for arn type: {TABLE}",
         {"EventSourceArn": TABLE, "StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1}),
        ("Maximum batch window in seconds must be greater than 0", {"EventSourceArn": QUEUE, "BatchSize": 11}),
        ("Unsupported DestinationConfig parameter",
         {"EventSourceArn": QUEUE, "DestinationConfig": {"OnFailure": {"Destination": QUEUE}}}),
        ("Invalid filter pattern definition.",
         {"EventSourceArn": QUEUE, "FilterCriteria": {"Filters": [{"Pattern": "{\"a\": \"x\"}"}]}}),
        ("Required 'sourceAccessConfigurations' parameter is missing.",
         {"SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["b:9092"]}},
          "Topics": ["t1"], "StartingPosition": "LATEST"}),
    ]:
        with refused(INVALID, 400, text):
            api.create_event_source_mapping(**{"FunctionName": "f", **ask})


def nothing_is_there():
    api = client()
    create(api, "f", ECHO)
    uuid = "00000000-0000-0000-0000-000000000000"
    for ask in [api.get_event_source_mapping, api.update_event_source_mapping, api.delete_event_source_mapping]:
        with refused("ResourceNotFoundException", 404, "The resource you requested does not exist."):
            ask(UUID=uuid)
    pages = api.get_paginator("list_event_source_mappings").paginate(FunctionName="f")
    assert [m for page in pages for m in page["EventSourceMappings"]] == []


main(globals())
