//! Requests as they arrive, to inputs or to the service's own refusals.

use bytes::Bytes;
use http::HeaderMap;
use lamu_api::shapes::*;
use lamu_api::{
    ApiError, ErrorCode, Input, Operation, Request, check_runtime, function_ref, invoke_head,
    parse, read, route,
};

const ROLE: &str = "arn:aws:iam::123456789012:role/r";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn typed<I: Input>(path: &str, query: &str, body: &str) -> Result<I, ApiError> {
    let route = route(I::OPERATION.method().as_str(), path, query)?;
    assert_eq!(route.operation, I::OPERATION);
    parse(&route, query, &HeaderMap::new(), Bytes::copy_from_slice(body.as_bytes()))
}

fn create(body: &str) -> Result<CreateFunctionRequest, ApiError> {
    typed("/2015-03-31/functions", "", body)
}

/// A sound CreateFunction with one more member.
fn create_with(member: &str) -> Result<CreateFunctionRequest, ApiError> {
    create(&format!(
        r#"{{"FunctionName":"f","Role":"{ROLE}","Code":{{"ZipFile":"emlw"}},{member}}}"#
    ))
}

fn refusal<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.code, ErrorCode::Validation, "{error}");
    error.message
}

fn unreadable<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    let error = result.unwrap_err();
    assert_eq!((error.code, error.status().as_u16()), (ErrorCode::Serialization, 400), "{error}");
    error.message
}

#[test]
fn a_request_becomes_typed_input() {
    let input = create_with(
        r#""Runtime":"python3.12","Timeout":30,"Publish":true,"Environment":{"Variables":{"Key":"v"}},"Layers":[],"Unheard":{"of":1},"Handler":null"#,
    )
    .unwrap();
    assert_eq!(input.function_name, "f");
    assert_eq!(input.code.zip_file.unwrap().0, "zip");
    assert_eq!(input.timeout, Some(30));
    assert_eq!(input.publish, Some(true));
    assert_eq!(input.layers, Some(vec![]));
    assert_eq!(input.handler, None);
    assert_eq!(input.environment.unwrap().variables.unwrap()["Key"], "v");
}

#[test]
fn members_come_from_where_the_model_puts_them() {
    let input: UpdateAliasRequest = typed(
        "/2015-03-31/functions/f/aliases/prod",
        "",
        r#"{"FunctionName":"other","RoutingConfig":{"AdditionalVersionWeights":{"2":0.25}}}"#,
    )
    .unwrap();
    assert_eq!((&*input.function_name, &*input.name), ("f", "prod"));
    assert_eq!(input.routing_config.unwrap().additional_version_weights.unwrap()["2"], 0.25);

    let query = "tagKeys=a&tagKeys=b%20c&other=x";
    let path = "/2017-03-31/tags/arn:aws:lambda:us-east-1:123456789012:function:f";
    let input: UntagResourceRequest = typed(path, query, "").unwrap();
    assert_eq!(input.tag_keys, ["a", "b c"]);

    let input: ListFunctionsRequest =
        typed("/2015-03-31/functions", "MaxItems=5&Marker=a%2Bb", "").unwrap();
    assert_eq!((input.max_items, input.marker.as_deref()), (Some(5), Some("a+b")));

    let input: GetLayerVersionRequest =
        typed("/2018-10-31/layers/l/versions/4294967296", "", "").unwrap();
    assert_eq!(input.version_number, 4_294_967_296);
}

#[test]
fn a_payload_is_taken_as_bytes() {
    let route = route("POST", "/2015-03-31/functions/f/invocations", "").unwrap();
    let sent = headers(&[("x-amz-log-type", "Tail"), ("x-amz-invocation-type", "Event")]);
    let body = Bytes::from_static(b"\xff not json");
    let input: InvocationRequest = parse(&route, "", &sent, body.clone()).unwrap();
    assert_eq!(input.payload, body);
    assert_eq!(input.log_type.as_deref(), Some("Tail"));
    assert_eq!(input.invocation_type.as_deref(), Some("Event"));

    let path = "/2014-11-13/functions/f/invoke-async";
    let input: InvokeAsyncRequest = typed(path, "", "").unwrap();
    assert_eq!(input.invoke_args, Bytes::new());

    let path = "/2025-12-01/durable-execution-callbacks/YWJj/fail";
    let input: SendDurableExecutionCallbackFailureRequest =
        typed(path, "", r#"{"ErrorType":"E","StackTrace":["a"]}"#).unwrap();
    assert_eq!(input.error.unwrap().error_type.as_deref(), Some("E"));
}

#[test]
fn every_operation_reads_an_empty_request_without_failing_itself() {
    for operation in Operation::ALL {
        let (path, query) = operation.uri().split_once('?').unwrap_or((operation.uri(), ""));
        let path = path.replace(['{', '}'], "").replace("VersionNumber", "1");
        let route = route(operation.method().as_str(), &path, query).unwrap();
        let result: Result<Request, ApiError> =
            read(&route, query, &HeaderMap::new(), Bytes::new());
        if let Err(error) = result {
            assert_eq!(error.code, ErrorCode::Validation, "{operation}");
        }
    }
}

#[test]
fn a_missing_member_is_named() {
    assert_eq!(
        refusal(create("")),
        "3 validation errors detected: Value null at 'code' failed to satisfy constraint: Member must not be null; Value null at 'functionName' failed to satisfy constraint: Member must not be null; Value null at 'role' failed to satisfy constraint: Member must not be null"
    );
    let path = "/2017-03-31/tags/arn:aws:lambda:us-east-1:123456789012:function:f";
    assert_eq!(
        refusal(typed::<UntagResourceRequest>(path, "", "")),
        "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"
    );
}

#[test]
fn a_length_names_its_bound() {
    let long = "d".repeat(257);
    assert_eq!(
        refusal(create_with(&format!(r#""Description":"{long}""#))),
        format!(
            "1 validation error detected: Value '{long}' at 'description' failed to satisfy constraint: Member must have length less than or equal to 256"
        )
    );
    // Counted as Java counts: an emoji is two.
    assert!(create_with(&format!(r#""Description":"{}""#, "😀".repeat(128))).is_ok());
    assert!(create_with(&format!(r#""Description":"{}""#, "😀".repeat(129))).is_err());
    assert_eq!(
        refusal(create_with(r#""Architectures":[]"#)),
        "1 validation error detected: Value '[]' at 'architectures' failed to satisfy constraint: Member must have length greater than or equal to 1"
    );
}

#[test]
fn a_range_names_its_bound() {
    assert_eq!(
        refusal(create_with(r#""MemorySize":1"#)),
        "1 validation error detected: Value '1' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"
    );
    assert_eq!(
        refusal(typed::<ListFunctionsRequest>("/2015-03-31/functions", "MaxItems=10001", "")),
        "1 validation error detected: Value '10001' at 'maxItems' failed to satisfy constraint: Member must have value less than or equal to 10000"
    );
}

#[test]
fn a_pattern_and_an_enum_are_spelled_out() {
    assert_eq!(
        refusal(create_with(r#""KMSKeyArn":"key""#)),
        "1 validation error detected: Value 'key' at 'kMSKeyArn' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()"
    );
    assert_eq!(
        refusal(create_with(r#""SnapStart":{"ApplyOn":"Always"}"#)),
        "1 validation error detected: Value 'Always' at 'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value set: [PublishedVersions, None]"
    );
}

#[test]
fn one_value_can_fail_twice_and_all_failures_are_told() {
    let name = format!("{}!", "n".repeat(256));
    let message = refusal(typed::<GetFunctionRequest>(
        &format!("/2015-03-31/functions/{name}"),
        "Qualifier=no!",
        "",
    ));
    assert!(message.starts_with("3 validation errors detected: Value 'n"), "{message}");
    assert!(message.contains(
        "at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 256; Value 'n"
    ));
    assert!(message.ends_with(
        r"; Value 'no!' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
    ));
}

#[test]
fn a_list_tells_everything_asked_of_its_members() {
    assert_eq!(
        refusal(create_with(r#""Architectures":["m68k"]"#)),
        "1 validation error detected: Value '[m68k]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"
    );
    assert_eq!(
        refusal(create_with(r#""VpcConfig":{"SubnetIds":["subnet-1",null]}"#)),
        "1 validation error detected: Value '[subnet-1, null]' at 'vpcConfig.subnetIds' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: subnet-[0-9a-z]*, Member must not be null]"
    );
}

#[test]
fn a_map_tells_keys_from_values() {
    let update = |weights: &str| {
        refusal(typed::<UpdateAliasRequest>(
            "/2015-03-31/functions/f/aliases/prod",
            "",
            &format!(r#"{{"RoutingConfig":{{"AdditionalVersionWeights":{weights}}}}}"#),
        ))
    };
    assert_eq!(
        update(r#"{"2":2}"#),
        "1 validation error detected: Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]"
    );
    assert_eq!(
        update(r#"{"$LATEST":0.5}"#),
        "1 validation error detected: Value '{$LATEST=0.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+, Member must not be null]"
    );
}

#[test]
fn structures_in_lists_are_counted_from_one() {
    let path = "/2015-03-31/event-source-mappings";
    let body = r#"{"FunctionName":"f","SourceAccessConfigurations":[{"Type":"VPC_SUBNET"},{"Type":"MOON"}]}"#;
    let message = refusal(typed::<CreateEventSourceMappingRequest>(path, "", body));
    assert!(
        message.starts_with(
            "1 validation error detected: Value 'MOON' at 'sourceAccessConfigurations.2.member.type' failed to satisfy constraint: Member must satisfy enum value set: ["
        ),
        "{message}"
    );
    let config = r#"{"Arn":"a","LocalMountPath":"/mnt/x"}"#;
    let message = refusal(create_with(&format!(r#""FileSystemConfigs":[{config},{config}]"#)));
    assert!(
        message.contains(
            "Value '[FileSystemConfig(arn=a, localMountPath=/mnt/x, s3FilesConfig=null), FileSystemConfig(arn=a, localMountPath=/mnt/x, s3FilesConfig=null)]' at 'fileSystemConfigs' failed to satisfy constraint: Member must have length less than or equal to 1"
        ),
        "{message}"
    );
}

#[test]
fn secrets_are_never_repeated() {
    assert_eq!(
        refusal(create_with(r#""Environment":{"Variables":{"1secret":"hunter2"}}"#)),
        "1 validation error detected: Value '***' at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]"
    );
}

#[test]
fn secrets_are_never_logged() {
    let input =
        create_with(r#""Environment":{"Variables":{"KEY":"hunter2"}},"Timeout":7"#).unwrap();
    let log = format!("{input:?}");
    assert!(log.contains("variables: ***") && log.contains("timeout: Some(7)"), "{log}");
    assert!(!log.contains("hunter2") && !log.contains("KEY"), "{log}");
    let input = InvocationRequest { payload: "hunter2".into(), ..Default::default() };
    assert!(!format!("{input:?}").contains("hunter2"));
}

#[test]
fn a_refusal_stays_small_beside_its_request() {
    let long = "d".repeat(3_000_000);
    let message = refusal(create_with(&format!(r#""Description":"{long}""#)));
    assert!(message.len() < 20_000);
    let items = vec![r#"{"Type":"MOON"}"#; 100_000].join(",");
    let body = format!(r#"{{"FunctionName":"f","SourceAccessConfigurations":[{items}]}}"#);
    let path = "/2015-03-31/event-source-mappings";
    let message = refusal(typed::<CreateEventSourceMappingRequest>(path, "", &body));
    assert!(message.len() < 200_000, "{}", message.len());
}

#[test]
fn wrong_types_and_broken_json_cannot_be_read() {
    for (member, text) in [
        (r#""Handler":1"#, "NUMBER_VALUE can not be converted to a String at 'handler'"),
        (r#""Timeout":"3""#, "STRING_VALUE can not be converted to an Integer at 'timeout'"),
        (r#""Timeout":3.5"#, "DECIMAL_VALUE can not be converted to an Integer at 'timeout'"),
        (r#""Timeout":3000000000"#, "NUMBER_VALUE can not be converted to an Integer at 'timeout'"),
        (r#""Publish":"true""#, "STRING_VALUE can not be converted to a Boolean at 'publish'"),
        (r#""Layers":{}"#, "START_OBJECT can not be converted to a list at 'layers'"),
        (r#""Layers":[1]"#, "NUMBER_VALUE can not be converted to a String at 'layers'"),
        (r#""VpcConfig":[]"#, "START_ARRAY can not be converted to a structure at 'vpcConfig'"),
        (r#""Tags":"a""#, "STRING_VALUE can not be converted to a map at 'tags'"),
    ] {
        assert_eq!(unreadable(create_with(member)), text);
    }
    let code = format!(r#"{{"FunctionName":"f","Role":"{ROLE}","Code":{{"ZipFile":"a!"}}}}"#);
    assert_eq!(unreadable(create(&code)), "The blob at 'code.zipFile' is not base64");
    assert!(unreadable(create("{")).starts_with("Could not parse request body into json: "));
    assert_eq!(unreadable(create("[]")), "The request body is not a JSON object");
    assert!(unreadable(create(&"[".repeat(100_000))).contains("recursion limit"));
    let query = typed::<ListFunctionsRequest>("/2015-03-31/functions", "MaxItems=many", "");
    assert_eq!(unreadable(query), "'many' can not be converted to an Integer");
    let label = typed::<GetLayerVersionRequest>("/2018-10-31/layers/l/versions/one", "", "");
    assert_eq!(unreadable(label), "'one' can not be converted to a Long");
}

#[test]
fn an_unknown_runtime_passes_the_model_and_fails_behind_it() {
    assert!(create_with(r#""Runtime":"cobol""#).is_ok());
    let error = check_runtime("cobol").unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidParameterValue);
    assert!(error.message.starts_with(
        "Value cobol at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["
    ));
    assert!(error.message.ends_with("] or be a valid ARN"));
    assert!(check_runtime("python3.12").is_ok() && check_runtime("provided.al2023").is_ok());
}

#[test]
fn names_are_read_in_the_family_of_their_operation() {
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:a.b:prod";
    let read = function_ref(Operation::GetFunction, arn).unwrap();
    assert_eq!(read.name.as_str(), "a.b");
    for (operation, text) in [
        (Operation::CreateAlias, "a.b"),
        (Operation::GetFunction, "arn:aws:lambda:123456789012:function:fn"),
        (Operation::GetFunction, "fn:$LATES"),
        (Operation::Invoke, "fn:1:2"),
    ] {
        let message = refusal(function_ref(operation, text));
        let start = format!(
            "1 validation error detected: Value '{text}' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:"
        );
        assert!(message.starts_with(&start), "{message}");
    }
    let long = format!("arn:aws:lambda:us-east-1:123456789012:function:{}", "n".repeat(100));
    assert!(
        refusal(function_ref(Operation::CreateAlias, &long))
            .ends_with("Member must have length less than or equal to 140")
    );
    assert!(function_ref(Operation::GetFunction, &long).is_ok());
}

#[test]
fn the_short_way_of_invoke_says_what_the_long_way_says() {
    let path = "/2015-03-31/functions/fn:prod/invocations";
    let query = "Qualifier=prod";
    let sent = headers(&[("x-amz-log-type", "Tail"), ("x-amz-tenant-id", "blue")]);
    let target = route("POST", path, query).unwrap();
    let head = invoke_head(&target, query, &sent).unwrap();
    assert_eq!(head.function.name.as_str(), "fn");
    assert_eq!(head.qualifier.as_deref(), Some("prod"));
    assert_eq!((head.log_tail, head.tenant_id.as_deref()), (true, Some("blue")));
    assert_eq!(head.invocation_type, None);

    for (path, query, sent) in [
        ("/2015-03-31/functions/fn!/invocations", "", headers(&[])),
        (path, "Qualifier=no%21", headers(&[])),
        (path, "Qualifier=", headers(&[])),
        (path, "", headers(&[("x-amz-invocation-type", "Later")])),
        (path, "", headers(&[("x-amz-log-type", "Head"), ("x-amz-tenant-id", "a|b")])),
    ] {
        let target = route("POST", path, query).unwrap();
        let short = invoke_head(&target, query, &sent).unwrap_err();
        let long = read(&target, query, &sent, Bytes::new()).unwrap_err();
        assert_eq!(short, long);
        assert_eq!(short.code, ErrorCode::Validation);
    }
    // A streamed answer cannot be asked for as an event.
    let path = "/2021-11-15/functions/fn/response-streaming-invocations";
    let target = route("POST", path, "").unwrap();
    let sent = headers(&[("x-amz-invocation-type", "Event")]);
    assert!(refusal(invoke_head(&target, "", &sent)).ends_with("[RequestResponse, DryRun]"));
}
