//! The order of an extension's calls, and what is refused.

use super::*;
use lamu_guest::Exit;

fn id(count: u8) -> String {
    uuid([count; 16])
}

fn events(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// `agent` started from its file, and `inside` registered from the runtime.
fn two() -> Extensions {
    let mut extensions = Extensions::default();
    extensions.launched("agent".into(), id(1), Ok(100));
    extensions.register("inside", &events(&["INVOKE"]), id(2)).unwrap();
    extensions
}

fn transition(from: &'static str, to: &'static str, who: &str) -> Refused {
    Refused::Transition { from, to, who: who.to_owned() }
}

#[test]
fn an_external_extension_goes_through_its_states() {
    let mut extensions = two();
    assert!(!extensions.registered() && !extensions.ready());
    assert_eq!(extensions.find(Some(&id(1))), Err(Refused::UnknownIdentifier(id(1))));
    let at = extensions.register("agent", &events(&["INVOKE", "SHUTDOWN"]), id(9)).unwrap();
    assert_eq!(extensions.find(Some(&id(1).to_uppercase())), Ok(at), "it keeps its own id");
    assert!(extensions.registered() && !extensions.ready());
    extensions.next(at, 5).unwrap();
    extensions.next(1, 6).unwrap();
    assert!(extensions.ready() && !extensions.busy());

    extensions.get_mut(at).unwrap().event = Some("{}".into());
    assert!(extensions.busy(), "an event that was not fetched");
    let agent = extensions.get_mut(at).unwrap();
    agent.event = None;
    agent.parked = None;
    agent.state = State::Running;
    assert!(extensions.busy());
    extensions.next(at, 5).unwrap();
    assert!(!extensions.busy());
}

#[test]
fn waiting_twice_is_refused_unless_the_connection_broke() {
    let mut extensions = two();
    extensions.next(1, 5).unwrap();
    assert_eq!(extensions.next(1, 6), Err(transition("Ready", "Ready", &id(2))));
    extensions.unpark(5);
    assert!(!extensions.is_parked(5));
    extensions.next(1, 6).unwrap();
    assert!(extensions.is_parked(6));
}

#[test]
fn names_and_numbers_are_bounded() {
    let mut extensions = two();
    let mut register =
        |name: &str, names: &[&str]| extensions.register(name, &events(names), id(7));
    assert_eq!(register("", &[]), Err(Refused::EmptyName));
    assert_eq!(register(&"x".repeat(256), &[]), Err(Refused::LongName));
    assert_eq!(register("inside", &[]), Err(Refused::NameTaken));
    assert_eq!(register("agent", &["INVOKE"]), Ok(0));
    assert_eq!(register("agent", &[]), Err(transition("Registered", "Registered", "agent")));
    for count in 3..=EXTENSIONS_MAX {
        assert!(register(&format!("more-{count}"), &[]).is_ok());
    }
    assert_eq!(register("one-more", &[]), Err(Refused::TooMany));
    extensions.close();
    let late = extensions.register("late", &[], id(8));
    assert_eq!(late, Err(Refused::Closed));
}

#[test]
fn events_are_two_and_shutdown_is_for_external_ones() {
    let mut extensions = two();
    let wrong = |event: &str, why| Err(Refused::EventType { event: event.into(), why });
    assert_eq!(
        extensions.register("agent", &events(&["INVOKE", "RESTORE"]), id(3)),
        wrong("RESTORE", "ErrorInvalidEventType")
    );
    assert_eq!(
        extensions.register("other", &events(&["SHUTDOWN"]), id(3)),
        wrong("SHUTDOWN", "ShutdownEventNotSupportedForInternalExtension")
    );
    assert!(extensions.register("agent", &events(&["SHUTDOWN"]), id(3)).is_ok());
    let agent = &extensions.all()[0];
    assert!(agent.shutdown && !agent.invoke);
}

#[test]
fn bodies_that_are_no_registration_are_refused() {
    assert_eq!(parse_register(br#"{"events":["INVOKE","SHUTDOWN"]}"#).unwrap().len(), 2);
    assert_eq!(parse_register(b"{}"), Ok(vec![]));
    assert_eq!(parse_register(br#"{"events":null,"configurationKeys":[]}"#), Ok(vec![]));
    for body in [&b""[..], b"[]", b"{\"events\":1}", b"{\"events\":[1]}", b"{", b"\xff"] {
        assert!(matches!(parse_register(body), Err(Refused::Format(_))), "{body:?}");
    }
    let keys = parse_register(br#"{"events":[],"configurationKeys":["a"]}"#);
    assert!(matches!(keys, Err(Refused::Format(text)) if text.starts_with("configurationKeys")));
}

#[test]
fn identifiers_are_looked_at_before_they_are_looked_up() {
    let extensions = two();
    assert_eq!(extensions.find(None), Err(Refused::MissingIdentifier));
    assert_eq!(extensions.find(Some("")), Err(Refused::MissingIdentifier));
    assert_eq!(extensions.find(Some("nonsense")), Err(Refused::InvalidIdentifier));
    let stranger = id(200);
    assert_eq!(extensions.find(Some(&stranger)), Err(Refused::UnknownIdentifier(stranger.clone())));
    assert_eq!(stranger, "c8c8c8c8-c8c8-48c8-88c8-c8c8c8c8c8c8");
}

#[test]
fn an_error_is_reported_once_and_in_its_time() {
    let mut extensions = two();
    assert_eq!(extensions.report(1, Reported::Init, None), Err(Refused::MissingErrorType));
    extensions.report(1, Reported::Init, Some("Extension.Oops")).unwrap();
    extensions.report(1, Reported::Init, Some("Extension.Later")).unwrap();
    assert_eq!(extensions.all()[1].error_type.as_deref(), Some("Extension.Oops"));
    assert_eq!(
        extensions.report(1, Reported::Exit, Some("X")),
        Err(transition("InitError", "Exited", &id(2)))
    );
    assert_eq!(extensions.next(1, 3), Err(transition("InitError", "Ready", &id(2))));

    extensions.register("agent", &[], id(3)).unwrap();
    extensions.next(0, 4).unwrap();
    assert_eq!(
        extensions.report(0, Reported::Init, Some("X")),
        Err(transition("Ready", "InitError", &id(1)))
    );
    extensions.report(0, Reported::Exit, Some("X")).unwrap();
    let fault = extensions.ended(100, Exit::Code(3)).unwrap();
    assert_eq!(fault.kind, ExtensionFaultKind::Exit);
    assert_eq!(extensions.ended(100, Exit::Code(3)), None, "it ended before");
}

#[test]
fn an_end_without_a_word_is_a_crash() {
    let mut extensions = two();
    let fault = extensions.ended(100, Exit::Code(0)).unwrap();
    assert_eq!(fault.kind, ExtensionFaultKind::Crash);
    let states: Vec<_> = extensions.statuses().map(|status| status.state).collect();
    assert_eq!(states, [State::Exited, State::Registered]);
}
