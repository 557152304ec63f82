//! What a sandbox reaches when endpoints are configured: those, at the
//! addresses they have outside, and nothing besides.

mod common;

use common::{Host, eventually};
use lamu_model::{EgressPlan, Endpoint};
use lamu_sandbox::Driver;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const REFUSED: &str = "error 111";
const UNREACHABLE: &str = "error 101";

fn plan(urls: &[&str]) -> EgressPlan {
    let endpoints: Vec<Endpoint> =
        urls.iter().map(|url| Endpoint::parse(url, None).unwrap()).collect();
    EgressPlan::new(&endpoints).unwrap()
}

/// Greets everyone who connects.
async fn greeter(word: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(word.as_bytes()).await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_endpoints_are_reached_at_their_own_addresses_and_no_others() {
    let (open, closed) = (greeter("open").await, greeter("closed").await);
    let url = format!("http://127.0.0.1:{open}");
    let host = Host::start_with(plan(&[
        &url,
        "http://10.11.12.13:80",
        "https://service.example.com",
        "http://[fd00::77]:8000",
    ]))
    .await;
    let mut inside = host.inside().await;
    assert_eq!(inside.ask(&format!("fn hear 127.0.0.1:{open}")).await, "open");
    assert_eq!(inside.ask(&format!("fn connect 127.0.0.1:{closed}")).await, REFUSED);
    // A door is there for each, whatever becomes of the way behind it.
    for door in ["10.11.12.13:80", "127.77.0.1:443", "[fd00::77]:8000"] {
        assert_eq!(inside.ask(&format!("fn connect {door}")).await, "connected", "{door}");
    }
    for (address, answer) in [
        ("10.11.12.13:81", REFUSED),
        ("10.11.12.14:80", UNREACHABLE),
        ("127.77.0.2:443", REFUSED),
        ("169.254.169.254:80", UNREACHABLE),
        ("192.168.0.1:80", UNREACHABLE),
    ] {
        assert_eq!(inside.ask(&format!("fn connect {address}")).await, answer, "{address}");
    }
    let hosts = inside.ask("fn text /etc/hosts").await;
    assert!(hosts.contains("127.77.0.1 service.example.com"), "{hosts}");
    eventually("it is counted", || host.driver.egress().figures().received_bytes == 4);
    host.driver.destroy(inside.sandbox).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_on_the_runtime_apis_address_gets_another() {
    let endpoint = Endpoint::parse("http://127.0.0.1:9001", Some("s3")).unwrap();
    let host = Host::start_with(EgressPlan::new(&[endpoint]).unwrap()).await;
    let mut inside = host.inside().await;
    // As init does.
    assert_eq!(inside.ask("fn serve 127.0.0.1:9001").await, "served");
    assert_eq!(inside.ask("fn connect 127.77.0.1:9001").await, "connected");
    host.driver.destroy(inside.sandbox).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn doors_close_with_their_sandbox_and_open_again_in_the_next() {
    let port = greeter("hello").await;
    let url = format!("http://127.0.0.1:{port}");
    let host = Host::start_with(plan(&[&url, "http://10.11.12.13:80"])).await;
    for _ in 0..5 {
        // Mostly in the network namespace of the one before.
        let mut inside = host.inside().await;
        assert_eq!(inside.ask(&format!("fn hear 127.0.0.1:{port}")).await, "hello");
        host.driver.destroy(inside.sandbox).await.unwrap();
    }
    let mut dropped = host.inside().await;
    assert_eq!(dropped.ask(&format!("fn hear 127.0.0.1:{port}")).await, "hello");
    drop(dropped);
    eventually("the dropped sandbox is gone", || host.children() == 0);
    assert_eq!(host.driver.egress().figures().connections, 6);
}
