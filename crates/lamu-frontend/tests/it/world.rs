//! A frontend with everything it needs, in a directory that goes with it.

use std::io::{Cursor, Write as _};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lamu_frontend::{Frontend, FrontendConfig, FrontendHandle};
use lamu_link::LogsHandle;
use lamu_store::{DirPackages, Metadata, Packages, SqliteMetadata};
use serde_json::{Value, json};

use crate::clients::{Client, Got};
use crate::fleet::Fleet;

pub const ROLE: &str = "arn:aws:iam::000000000000:role/r";
pub const FUNCTIONS: &str = "/2015-03-31/functions";

pub struct World {
    pub client: Client,
    pub fleet: Arc<Fleet>,
    pub metadata: Arc<dyn Metadata>,
    pub packages: Arc<dyn Packages>,
    handle: Option<FrontendHandle>,
    directory: tempfile::TempDir,
}

impl World {
    pub async fn new() -> World {
        World::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut FrontendConfig)) -> World {
        World::in_directory(tempfile::tempdir().unwrap(), change).await
    }

    async fn in_directory(
        directory: tempfile::TempDir,
        change: impl FnOnce(&mut FrontendConfig),
    ) -> World {
        let metadata: Arc<dyn Metadata> =
            Arc::new(SqliteMetadata::open(directory.path().join("metadata.db")).unwrap());
        let packages: Arc<dyn Packages> =
            Arc::new(DirPackages::open(directory.path().join("packages")).unwrap());
        let (fleet, manager, worker) = Fleet::start();
        let listen = "127.0.0.1:0".parse().unwrap();
        let mut config = FrontendConfig::local(listen, directory.path().to_path_buf());
        change(&mut config);
        // Nobody reads: a world without logs.
        let (logs, _) = LogsHandle::new();
        let workers = vec![worker];
        let handle =
            Frontend::start(config, metadata.clone(), packages.clone(), manager, workers, logs)
                .await
                .unwrap();
        let client = Client { address: handle.local_addr() };
        World { client, fleet, metadata, packages, handle: Some(handle), directory }
    }

    pub fn stats(&self) -> &lamu_frontend::FrontendStats {
        self.handle.as_ref().unwrap().stats()
    }

    pub async fn drain(mut self, patience: Duration) -> tempfile::TempDir {
        self.handle.take().unwrap().drain(patience).await;
        self.directory
    }

    /// The same directory under a new process, as after a kill.
    pub async fn killed(self) -> World {
        let World { handle, metadata, packages, directory, .. } = self;
        drop((handle, packages));
        // Background tasks let go of the store in their own time.
        for _ in 0..500 {
            if Arc::strong_count(&metadata) == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(Arc::strong_count(&metadata), 1, "the frontend let go of its store");
        drop(metadata);
        World::in_directory(directory, |_| {}).await
    }

    pub async fn create(&self, name: &str) -> Got {
        self.create_with(name, json!({})).await
    }

    pub async fn create_with(&self, name: &str, members: Value) -> Got {
        let mut input = json!({
            "FunctionName": name,
            "Role": ROLE,
            "Runtime": "python3.12",
            "Handler": "index.handler",
            "Code": {"ZipFile": zip(&[("index.py", name)])},
        });
        let object = input.as_object_mut().unwrap();
        object.extend(members.as_object().unwrap().clone());
        self.client.call("POST", FUNCTIONS, input).await
    }

    /// A function that is ready.
    pub async fn function(&self, name: &str) -> Value {
        let created = self.create(name).await;
        assert_eq!(created.status, 201, "{:?}", created.body);
        self.settled(name).await
    }

    /// The configuration once nothing is under way.
    pub async fn settled(&self, name: &str) -> Value {
        for _ in 0..1_000 {
            let got = self.client.get(&format!("{FUNCTIONS}/{name}/configuration")).await;
            let shown = got.json();
            if shown["State"] != "Pending" && shown["LastUpdateStatus"] != "InProgress" {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{name} did not settle");
    }

    pub async fn invoke(&self, name: &str, event: Value) -> Got {
        let path = format!("{FUNCTIONS}/{name}/invocations");
        self.client.send("POST", &path, &[], event.to_string()).await
    }
}

/// A zip with these files, in base64.
pub fn zip(files: &[(&str, &str)]) -> String {
    STANDARD.encode(zip_bytes(files))
}

pub fn zip_bytes(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}
