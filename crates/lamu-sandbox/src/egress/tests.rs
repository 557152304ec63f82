//! The outer side of doors, with listeners of this machine's own loopback in
//! the place of a sandbox's.

use std::os::fd::OwnedFd;

use lamu_model::{EgressDoor, Endpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// An endpoint that answers what it hears, in capitals, and how many
/// connections it has.
async fn shouter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    let _ = stream.write_all(&buffer[..count].to_ascii_uppercase()).await;
                }
            });
        }
    });
    address
}

fn door() -> (OwnedFd, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

fn egress(target: EgressTarget, connections: usize, idle: Duration) -> Arc<Egress> {
    let inside = "127.0.0.1:1".parse().unwrap();
    let doors = vec![EgressDoor { inside, target }];
    let plan = EgressPlan { doors, ..EgressPlan::default() };
    Arc::new(Egress::with_limits(&plan, Limits { connections, idle }, 8))
}

async fn shout(stream: &mut TcpStream, word: &str) -> String {
    stream.write_all(word.as_bytes()).await.unwrap();
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Whether the other side has closed.
async fn ended(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 8]).await, Ok(1..))
}

#[tokio::test]
async fn a_connection_reaches_its_endpoint_and_is_counted() {
    let egress = egress(EgressTarget::Address(shouter().await), 4, IDLE_MAX);
    let (listener, inside) = door();
    let doors = egress.serve(vec![listener]).unwrap();
    let mut stream = TcpStream::connect(inside).await.unwrap();
    assert_eq!(shout(&mut stream, "hello").await, "HELLO");
    assert_eq!(shout(&mut stream, "again").await, "AGAIN");
    stream.shutdown().await.unwrap();
    assert!(ended(&mut stream).await);
    doors.close().await;
    let figures = egress.figures();
    assert_eq!((figures.connections, figures.refused), (1, 0));
    assert!(TcpStream::connect(inside).await.is_err(), "the door is closed");
}

#[tokio::test]
async fn too_many_connections_wait_for_one_to_end() {
    let egress = egress(EgressTarget::Address(shouter().await), 2, IDLE_MAX);
    let (listener, inside) = door();
    let _doors = egress.serve(vec![listener]).unwrap();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(inside).await.unwrap();
        assert_eq!(shout(&mut stream, "in").await, "IN");
        streams.push(stream);
    }
    let mut third = TcpStream::connect(inside).await.unwrap();
    third.write_all(b"late").await.unwrap();
    assert_eq!(egress.figures().connections, 2, "not let in yet");
    drop(streams.pop());
    let mut answer = [0; 4];
    third.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"LATE");
}

#[tokio::test]
async fn a_silent_connection_is_ended() {
    let egress = egress(EgressTarget::Address(shouter().await), 2, Duration::from_millis(50));
    let (listener, inside) = door();
    let _doors = egress.serve(vec![listener]).unwrap();
    let mut stream = TcpStream::connect(inside).await.unwrap();
    assert_eq!(shout(&mut stream, "a").await, "A");
    assert!(ended(&mut stream).await);
}

#[tokio::test]
async fn a_closing_door_takes_its_connections_along() {
    let egress = egress(EgressTarget::Address(shouter().await), 2, IDLE_MAX);
    let (listener, inside) = door();
    let doors = egress.serve(vec![listener]).unwrap();
    let mut stream = TcpStream::connect(inside).await.unwrap();
    assert_eq!(shout(&mut stream, "a").await, "A");
    doors.close().await;
    assert!(ended(&mut stream).await);
    assert_eq!(egress.total.available_permits(), 8);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_ends_the_connection() {
    let (listener, gone) = door();
    drop(listener);
    let egress = egress(EgressTarget::Address(gone), 2, IDLE_MAX);
    let (listener, inside) = door();
    let _doors = egress.serve(vec![listener]).unwrap();
    let mut stream = TcpStream::connect(inside).await.unwrap();
    assert!(ended(&mut stream).await);
    assert_eq!(egress.figures().refused, 1);
}

#[tokio::test]
async fn the_own_api_is_reached_once_it_listens() {
    let egress = egress(EgressTarget::Own, 2, IDLE_MAX);
    let (listener, inside) = door();
    let _doors = egress.serve(vec![listener]).unwrap();
    let mut early = TcpStream::connect(inside).await.unwrap();
    assert!(ended(&mut early).await);
    egress.set_own(shouter().await);
    let mut stream = TcpStream::connect(inside).await.unwrap();
    assert_eq!(shout(&mut stream, "a").await, "A");
    let all: SocketAddr = "0.0.0.0:5".parse().unwrap();
    assert_eq!(reachable(all).to_string(), "127.0.0.1:5");
    assert_eq!(reachable("[::]:5".parse().unwrap()).to_string(), "[::1]:5");
}

#[tokio::test]
async fn a_name_that_means_this_machine_is_not_followed() {
    // As an answer of the name service would be.
    let found = ["127.0.0.1:80", "169.254.169.254:80", "10.0.0.1:80", "[fe80::1]:80"];
    let found = found.iter().map(|text| text.parse().unwrap());
    let open = allowed(found);
    assert_eq!(open, ["10.0.0.1:80".parse().unwrap()]);
    // And from end to end, with a name that every host has in its files.
    let shouter = shouter().await;
    let target = EgressTarget::Name { name: "localhost".into(), port: shouter.port() };
    let egress = egress(target, 2, IDLE_MAX);
    let (listener, inside) = door();
    let _doors = egress.serve(vec![listener]).unwrap();
    let mut stream = TcpStream::connect(inside).await.unwrap();
    assert!(ended(&mut stream).await);
    assert_eq!(egress.figures().refused, 1);
}

#[tokio::test]
async fn a_plan_and_its_doors_belong_together() {
    let endpoints = [Endpoint::parse("http://localhost:5000", Some("s3")).unwrap()];
    let egress = Arc::new(Egress::new(&EgressPlan::new(&endpoints).unwrap()));
    assert!(egress.serve(Vec::new()).is_err());
    assert!(Arc::new(Egress::new(&EgressPlan::default())).serve(Vec::new()).is_ok());
}
