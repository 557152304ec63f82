//! Layers of functions, as far as the control plane alone decides.

use serde_json::{Value, json};

use crate::world::{FUNCTIONS, World, zip};

const LAYER: &str = "/2018-10-31/layers/tools/versions";

async fn publish(world: &World) -> Value {
    let content = json!({"Content": {"ZipFile": zip(&[("python/tools.py", "X = 1")])}});
    let got = world.client.call("POST", LAYER, content).await;
    assert_eq!(got.status, 201, "{:?}", got.body);
    got.json()
}

#[tokio::test]
async fn a_function_from_before_layers_takes_them() {
    let world = World::new().await;
    world.function("f").await;
    // As an older lamu has written it.
    let key = "function/000000000000/us-east-1/f";
    let stored = world.metadata.get(key).await.unwrap().unwrap();
    let mut head: Value = serde_json::from_slice(&stored.value).unwrap();
    let live = head["live"].as_object_mut().unwrap();
    assert!(live.remove("code_signing").is_some());
    let latest = live["latest"].as_object_mut().unwrap();
    assert!(latest.remove("layers").is_some() && latest.remove("code_unzipped_bytes").is_some());
    let older = serde_json::to_vec(&head).unwrap().into();
    world.metadata.put(key, older, lamu_store::Expect::At(stored.revision)).await.unwrap();
    let world = world.killed().await;
    let layer = publish(&world).await;

    let arn = layer["LayerVersionArn"].clone();
    let path = format!("{FUNCTIONS}/f/configuration");
    let updated = world.client.call("PUT", &path, json!({"Layers": [arn]})).await;

    assert_eq!(updated.status, 200, "{:?}", updated.body);
    let shown = json!([{"Arn": arn, "CodeSize": layer["Content"]["CodeSize"]}]);
    assert_eq!(updated.json()["Layers"], shown);
    assert_eq!(world.settled("f").await["Layers"], shown);
}

#[tokio::test]
async fn a_link_to_a_layer_opens_without_a_signature() {
    let world = World::new().await;
    publish(&world).await;
    let got = world.client.get(&format!("{LAYER}/1")).await.json();
    let location = got["Content"]["Location"].as_str().unwrap();
    let path = location.strip_prefix(&format!("http://{}", world.client.address)).unwrap();
    let fetched = world.client.get(path).await;
    assert_eq!(fetched.status, 200);
    assert_eq!(fetched.body.len() as u64, got["Content"]["CodeSize"].as_u64().unwrap());
    assert_eq!(world.client.get(&path.replace("signature=", "signature=0")).await.status, 403);
}
