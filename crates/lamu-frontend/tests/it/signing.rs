//! Code signing configurations and the functions that have them.

use serde_json::json;

use crate::world::{FUNCTIONS, World};

const CONFIGS: &str = "/2020-04-22/code-signing-configs";

#[tokio::test]
async fn a_configuration_named_in_another_partition_is_in_use_all_the_same() {
    let world = World::new().await;
    let publishers = json!({"SigningProfileVersionArns": [
        "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/0123456789"
    ]});
    let input = json!({"AllowedPublishers": publishers});
    let made = world.client.call("POST", &format!("{CONFIGS}/"), input).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let arn = made.json()["CodeSigningConfig"]["CodeSigningConfigArn"].as_str().unwrap().to_owned();
    let odd = arn.replace("arn:aws:", "arn:aws-cn:");

    let created = world.create_with("f", json!({"CodeSigningConfigArn": odd})).await;

    assert_eq!(created.status, 201, "{:?}", created.body);
    let got = world.client.get(&format!("{CONFIGS}/{arn}/functions")).await.json();
    assert_eq!(got["FunctionArns"], json!(["arn:aws:lambda:us-east-1:000000000000:function:f"]));
    let path = "/2020-06-30/functions/f/code-signing-config";
    assert_eq!(world.client.get(path).await.json()["CodeSigningConfigArn"], json!(arn));
    let deleted = world.client.call("DELETE", &format!("{CONFIGS}/{arn}"), json!(null)).await;
    assert_eq!(deleted.error().0, 409);
    world.settled("f").await;
    assert_eq!(world.client.get(&format!("{FUNCTIONS}/f")).await.status, 200);
}
