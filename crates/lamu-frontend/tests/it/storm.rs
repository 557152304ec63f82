//! Many writers and callers at once: whatever happens in between, everything
//! comes to rest and nothing is left over.

use serde_json::{Value, json};

use crate::clients::Client;
use crate::world::{FUNCTIONS, ROLE, World, zip};

const NAMES: [&str; 3] = ["f", "g", "h"];
const STATUSES: [u16; 7] = [200, 201, 204, 400, 404, 409, 412];

/// One of everything, chosen by the number.
async fn act(client: Client, choice: usize) -> u16 {
    let name = NAMES[choice % NAMES.len()];
    let function = format!("{FUNCTIONS}/{name}");
    let code = zip(&[("index.py", &choice.to_string())]);
    let (method, path, input) = match (choice / NAMES.len()) % 10 {
        0 | 1 => (
            "POST",
            FUNCTIONS.to_owned(),
            json!({
                "FunctionName": name,
                "Role": ROLE,
                "Runtime": "python3.12",
                "Handler": "index.handler",
                "Code": {"ZipFile": code},
                "Publish": choice.is_multiple_of(2),
            }),
        ),
        2 => ("PUT", format!("{function}/code"), json!({"ZipFile": code, "Publish": true})),
        3 => ("PUT", format!("{function}/configuration"), json!({"Timeout": 1 + choice % 9})),
        4 => ("POST", format!("{function}/versions"), json!({})),
        5 => {
            let input = json!({"Name": "prod", "FunctionVersion": "1"});
            ("POST", format!("{function}/aliases"), input)
        }
        6 => ("DELETE", format!("{function}/aliases/prod"), Value::Null),
        7 => ("DELETE", function, Value::Null),
        8 => {
            let path = format!("/2017-10-31/functions/{name}/concurrency");
            ("PUT", path, json!({"ReservedConcurrentExecutions": 10}))
        }
        _ => ("POST", format!("{function}/invocations"), json!({})),
    };
    client.call(method, &path, input).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_changes_comes_to_rest() {
    let world = World::new().await;
    let client = world.client;
    let workers: Vec<_> = (0..8_usize)
        .map(|worker| {
            tokio::spawn(async move {
                let mut seed = worker.wrapping_mul(0x9e37_79b9) + 1;
                for _ in 0..60 {
                    // A small generator, so that a failure repeats.
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    let status = act(client, seed % 10_007).await;
                    assert!(STATUSES.contains(&status), "{status}");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let mut versions = 0;
    let mut aliases = 0;
    for name in NAMES {
        if client.get(&format!("{FUNCTIONS}/{name}")).await.status == 404 {
            continue;
        }
        let settled = world.settled(name).await;
        assert_eq!(settled["LastUpdateStatus"], "Successful", "{settled}");
        assert_eq!(world.invoke(name, json!({})).await.status, 200);
        let mut path = format!("{FUNCTIONS}/{name}/versions");
        loop {
            let page = client.get(&path).await.json();
            versions += page["Versions"].as_array().unwrap().len();
            match page["NextMarker"].as_str() {
                Some(next) => path = format!("{FUNCTIONS}/{name}/versions?Marker={next}"),
                None => break,
            }
        }
        versions -= 1;
        let listed = client.get(&format!("{FUNCTIONS}/{name}/aliases")).await.json();
        aliases += listed["Aliases"].as_array().unwrap().len();
    }
    let stored = world.metadata.scan("version/", None, 1_000).await.unwrap();
    assert_eq!(stored.len(), versions, "every stored version is listed");
    let stored = world.metadata.scan("alias/", None, 1_000).await.unwrap();
    assert_eq!(stored.len(), aliases, "every stored alias is listed");
}
