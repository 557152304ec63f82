//! Environments with extensions, with the test as init: what is logged and
//! told to subscribers, when an invocation is over, and how an environment
//! comes to its end.

mod common;
mod stage;

use std::time::Duration;

use common::{body, call, eventually, fault, tail};
use lamu_guest::{
    Exit, ExtensionEnd, ExtensionFault, ExtensionFaultKind, ExtensionState, ExtensionStatus,
    FromInit, InitOutcome, LogSource, ShutdownReason, TelemetryApi, TelemetryTypes, ToInit,
};
use lamu_link::{BootError, Booted};
use lamu_model::LogFormat;
use stage::{Init, Stage};
use tokio::io::AsyncWriteExt;

fn agent() -> FromInit {
    FromInit::Extension(ExtensionStatus {
        name: "agent".into(),
        external: true,
        state: ExtensionState::Ready,
        invoke: true,
        shutdown: true,
        error_type: None,
    })
}

fn subscribed(api: TelemetryApi) -> FromInit {
    let types = TelemetryTypes { platform: true, function: true, extension: false };
    FromInit::Subscribed { api, name: "agent".into(), types }
}

fn crash() -> ExtensionFault {
    ExtensionFault { kind: ExtensionFaultKind::Crash, cause: ExtensionEnd::Exited(Exit::Code(2)) }
}

/// An environment whose Init went well with these notices of extensions.
async fn booted(stage: &mut Stage, notices: Vec<FromInit>) -> (Booted, Init) {
    let init = async {
        let mut init = Init::new(stage.births.recv().await.unwrap());
        init.hello().await;
        for notice in notices {
            init.say(notice).await;
        }
        init.init_done(InitOutcome::Ready).await;
        init
    };
    let (booted, init) = tokio::join!(stage.host.boot(&stage.spec), init);
    (booted.unwrap(), init)
}

async fn through(init: &mut Init, id: &str) {
    init.say(FromInit::RuntimeDone { request_id: id.to_owned(), handler_ns: 1_000 }).await;
}

fn types(init: &Init) -> Vec<&str> {
    init.events.iter().map(|(_, event)| event["type"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn extensions_are_named_in_the_log_and_hold_the_end_open() {
    let mut stage = Stage::new().await;
    let notices = vec![subscribed(TelemetryApi::Telemetry), agent()];
    let (booted, mut init) = booted(&mut stage, notices).await;
    let lease = stage.host.lease(&booted.environment);
    let (reply, id) = tokio::join!(lease.invoke(call("1", false), Box::new(())), async {
        let invoke = init.invoked().await;
        init.respond(&invoke.request_id, b"1").await;
        through(&mut init, &invoke.request_id).await;
        invoke.request_id
    });
    assert_eq!(body(&reply.unwrap()), "1", "answered before the extension is through");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(stage.host.returns.try_recv().is_err(), "the lease is still out");
    let record = b"from the extension".to_vec();
    init.say(FromInit::Log { source: LogSource::Extension, time_ms: 0, record }).await;
    init.done(&id).await;
    stage.host.returns.recv().await.unwrap();
    let lines = stage.host.lines(&stage.spec).await;
    assert_eq!(
        lines[..2],
        [
            "TELEMETRY\tName: agent\tState: Subscribed\tTypes: [Platform, Function]",
            "EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
        ]
    );
    assert!(lines[2].starts_with("START"), "{lines:?}");
    assert_eq!(lines[3], "from the extension");
    let report = &lines[5];
    let took: f64 =
        report.split("Duration: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(took >= 1_000.0, "the extension's time counts: {report}");
}

#[tokio::test(start_paused = true)]
async fn subscribers_hear_of_every_step_in_its_time() {
    let mut stage = Stage::new().await;
    let notices = vec![subscribed(TelemetryApi::Telemetry), agent()];
    let (booted, mut init) = booted(&mut stage, notices).await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            assert_eq!(
                types(&init),
                [
                    "platform.initStart",
                    "platform.telemetrySubscription",
                    "platform.extension",
                    "platform.initRuntimeDone",
                    "platform.initReport",
                    "platform.start",
                ]
            );
            init.respond(&invoke.request_id, b"1").await;
            through(&mut init, &invoke.request_id).await;
            let (api, done) = init.event().await;
            assert_eq!(api, TelemetryApi::Telemetry);
            assert_eq!(done["type"], "platform.runtimeDone", "before the extension is through");
            assert_eq!(done["record"]["status"], "success");
            assert_eq!(done["record"]["metrics"]["producedBytes"], 1);
            assert_eq!(done["record"]["spans"][0]["name"], "responseLatency");
            init.done(&invoke.request_id).await;
        })
        .await;
    reply.unwrap();
    let (_, report) = init.event().await;
    assert_eq!(report["type"], "platform.report");
    assert_eq!(report["record"]["spans"][0]["name"], "extensionOverhead");
    assert!(report["record"]["metrics"]["billedDurationMs"].is_u64());
}

#[tokio::test(start_paused = true)]
async fn the_logs_api_has_its_own_records() {
    let mut stage = Stage::new().await;
    let notices = vec![subscribed(TelemetryApi::Logs), agent()];
    let (booted, mut init) = booted(&mut stage, notices).await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            init.say(FromInit::Exited(Exit::Code(1))).await;
            // All that follows was sent before: the reset ends who hears it.
            init.reset().await;
        })
        .await;
    assert_eq!(fault(&reply.unwrap()).0, "Runtime.ExitError");
    assert_eq!(
        types(&init),
        [
            "platform.initStart",
            "platform.logsSubscription",
            "platform.extension",
            "platform.start",
            "platform.runtimeDone",
            "platform.fault",
            "platform.end",
            "platform.report",
        ]
    );
    let lines = stage.host.lines(&stage.spec).await;
    assert_eq!(lines[0], "LOGS\tName: agent\tState: Subscribed\tTypes: [Platform, Function]");
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_ends_brings_the_invocation_down() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = booted(&mut stage, vec![agent()]).await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            init.say(FromInit::ExtensionFailed(crash())).await;
            assert_eq!(init.hear().await, Some(ToInit::Reset(ShutdownReason::Failure)));
            init.say(FromInit::ResetDone).await;
        })
        .await;
    let reply = reply.unwrap();
    assert_eq!(fault(&reply), ("Extension.Crash", "exit status 2".to_owned()));
    let end = "Status: error\tError Type: Extension.Crash\n";
    assert!(tail(&reply).ends_with(end), "{}", tail(&reply));

    // The next one runs Init again, which fails too.
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            init.init_done(InitOutcome::Extension(ExtensionFault {
                kind: ExtensionFaultKind::Launch,
                cause: ExtensionEnd::NotStarted { name: "agent".into(), errno: 13 },
            }))
            .await;
            init.reset().await;
        })
        .await;
    let (error_type, message) = fault(&reply.unwrap());
    assert_eq!(error_type, "Extension.LaunchError");
    assert_eq!(message, "fork/exec /opt/extensions/agent: permission denied");

    // While nothing runs, it only means a reset.
    let (reply, ()) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            init.say(agent()).await;
            init.init_done(InitOutcome::Ready).await;
            init.respond(&invoke.request_id, b"1").await;
            init.done(&invoke.request_id).await;
        })
        .await;
    assert_eq!(body(&reply.unwrap()), "1");
    init.say(FromInit::ExtensionFailed(crash())).await;
    init.reset().await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_covers_extensions_and_is_told_before_they_end() {
    let mut stage = Stage::new().await;
    let notices = vec![subscribed(TelemetryApi::Telemetry), agent()];
    let (booted, mut init) = booted(&mut stage, notices).await;
    let lease = stage.host.lease(&booted.environment);
    let (reply, ()) = tokio::join!(lease.invoke(call("1", false), Box::new(())), async {
        let invoke = init.invoked().await;
        init.events.clear();
        init.respond(&invoke.request_id, b"1").await;
        through(&mut init, &invoke.request_id).await;
        assert_eq!(init.hear().await, Some(ToInit::Reset(ShutdownReason::Timeout)));
        init.say(FromInit::ResetDone).await;
    });
    assert_eq!(body(&reply.unwrap()), "1", "the answer stands");
    stage.host.returns.recv().await.unwrap();
    assert_eq!(types(&init), ["platform.runtimeDone", "platform.report"], "each once");
    let lines = stage.host.lines(&stage.spec).await;
    assert!(lines.last().unwrap().ends_with("Status: timeout"), "{lines:?}");

    let (reply, ()) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            init.say(subscribed(TelemetryApi::Telemetry)).await;
            init.say(agent()).await;
            init.init_done(InitOutcome::Ready).await;
            assert_eq!(init.hear().await, Some(ToInit::Reset(ShutdownReason::Timeout)));
            assert_eq!(
                types(&init)[types(&init).len() - 2..],
                ["platform.runtimeDone", "platform.report"],
                "{} hung: subscribers hear of it before the reset",
                invoke.request_id
            );
            init.say(FromInit::ResetDone).await;
        })
        .await;
    assert_eq!(fault(&reply.unwrap()).0, "Sandbox.Timedout");
    let phase = &init.events.iter().find(|(_, event)| event["record"]["phase"] == "invoke");
    assert!(phase.is_some(), "the Init inside an invocation says so: {:?}", init.events);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_environment_waits_for_its_extensions_only() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = booted(&mut stage, vec![agent()]).await;
    eventually("it freezes", || stage.driver.is_frozen(init.sandbox) == Some(true)).await;
    let drained = stage.host.worker.handle().drain(Duration::from_secs(60));
    let (drained, ()) = tokio::join!(drained, async {
        assert_eq!(init.hear().await, Some(ToInit::Shutdown(ShutdownReason::Spindown)));
        assert_eq!(stage.driver.is_frozen(init.sandbox), Some(false), "it could not run else");
        init.log("flushed").await;
        init.channel.shutdown().await.unwrap();
        drop(init);
    });
    drained.unwrap();
    assert!(booted.environment.is_gone());
    assert_eq!(stage.host.lines(&stage.spec).await.last().unwrap(), "flushed");

    let mut stage = Stage::new().await;
    let (_booted, mut init) = stage.booted().await;
    stage.host.worker.handle().drain(Duration::from_secs(60)).await.unwrap();
    assert_eq!(init.hear().await, None, "without extensions it is immediate");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_extensions_do_not_reach_is_made() {
    let mut stage = Stage::new().await;
    let (_booted, mut init) = booted(&mut stage, vec![agent()]).await;
    let began = tokio::time::Instant::now();
    stage.host.worker.handle().drain(Duration::from_secs(60)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(init.hear().await, Some(ToInit::Shutdown(ShutdownReason::Spindown)));
    stage.all_gone().await;

    let mut stage = Stage::new().await;
    let (_booted, _init) = booted(&mut stage, vec![agent()]).await;
    let began = tokio::time::Instant::now();
    stage.host.worker.handle().drain(Duration::from_millis(100)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "patience wins: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_init_that_names_extensions_without_end_is_not_believed() {
    let mut stage = Stage::new().await;
    let hostile = async {
        let mut init = Init::new(stage.births.recv().await.unwrap());
        init.hello().await;
        for _ in 0..200 {
            init.say(subscribed(TelemetryApi::Telemetry)).await;
        }
        init
    };
    let (booted, _init) = tokio::join!(stage.host.boot(&stage.spec), hostile);
    assert!(matches!(booted, Err(BootError::Sandbox { .. })), "{booted:?}");

    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            init.say(subscribed(TelemetryApi::Telemetry)).await;
        })
        .await;
    assert_eq!(fault(&reply.unwrap()).0, "Sandbox.Failure", "subscriptions are for Init");
    stage.all_gone().await;
}

#[tokio::test(start_paused = true)]
async fn names_cannot_forge_lines_of_the_log() {
    let mut stage = Stage::with(|_| {}, |spec| spec.log.format = LogFormat::Text).await;
    let forged = FromInit::Extension(ExtensionStatus {
        name: "a\nREPORT RequestId: r".into(),
        external: true,
        state: ExtensionState::Ready,
        invoke: false,
        shutdown: false,
        error_type: None,
    });
    let (_booted, _init) = booted(&mut stage, vec![forged]).await;
    let lines = stage.host.lines(&stage.spec).await;
    assert_eq!(lines, ["EXTENSION\tName: a REPORT RequestId: r\tState: Ready\tEvents: []"]);
}
