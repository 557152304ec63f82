//! Every way an environment can go, with the test as init: each sandbox's
//! channel ends in the test, which says what a good, a broken or a hostile
//! init would say. Time is paused, not slept through.

mod common;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::{body, call, eventually, fault, new_sandbox, tail};
use lamu_guest::{Exit, FromInit, InitOutcome, PROTOCOL, ShutdownReason, ToInit};
use lamu_link::{
    BootError, InvokeError, Load, ManagerHandle, ManagerRequest, PlacementRequest, WorkerEvent,
};
use lamu_model::{Epoch, FaultKind, LogFormat, LogLevel, Outcome};
use lamu_sandbox::fake::Event;
use lamu_sandbox::{DriverError, Stats};
use stage::{Init, Stage};
use tokio::io::AsyncWriteExt;

/// What an init says to an invocation of this id.
type Says = fn(&str) -> Vec<FromInit>;

#[tokio::test(start_paused = true)]
async fn an_invocation_logs_start_end_and_report() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    stage
        .driver
        .set_stats(init.sandbox, Stats { memory_bytes_max: (33 << 20) - 1, ..Stats::default() });
    let (reply, _) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            assert_eq!(invoke.body, b"{\"k\":1}");
            assert_eq!(invoke.function_arn, "arn:aws:lambda:us-east-1:123456789012:function:f");
            init.log("from the function").await;
            init.respond(&invoke.request_id, b"true").await;
            init.done(&invoke.request_id).await;
        })
        .await;
    let reply = reply.unwrap();
    assert_eq!(body(&reply), "true");
    let text = tail(&reply);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("START RequestId: ") && lines[0].ends_with(" Version: $LATEST"));
    assert_eq!(lines[1], "from the function");
    assert!(lines[2].starts_with("END RequestId: "), "{text}");
    assert!(lines[3].contains("Max Memory Used: 33 MB\tInit Duration: "), "{text}");
    assert!(lines[3].ends_with(" ms\t"), "{text}");
    assert_eq!(stage.host.lines(&stage.spec).await, lines);

    let (reply, ()) = stage.invoke(&booted, init.echo()).await;
    let text = tail(&reply.unwrap());
    assert!(text.starts_with("START") && !text.contains("Init Duration"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_without_tail_is_answered_before_the_end() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let lease = stage.host.lease(&booted.environment);
    let (hold, held) = tokio::sync::oneshot::channel::<()>();
    let (reply, id) = tokio::join!(lease.invoke(call("1", false), Box::new(hold)), async {
        let invoke = init.invoked().await;
        init.respond(&invoke.request_id, b"1").await;
        invoke.request_id
    });
    assert!(reply.unwrap().log_tail.is_none());
    let environment = booted.environment.clone();
    eventually("the manager can see it", || environment.is_answered()).await;
    assert!(stage.host.returns.try_recv().is_err(), "the lease is still out");
    init.done(&id).await;
    let (_, sandbox) = stage.host.returns.recv().await.unwrap();
    assert_eq!(sandbox, init.sandbox);
    assert!(held.await.is_err(), "the permit went with it");
    assert!(!booted.environment.is_answered());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_resets_and_the_next_invocation_reruns_init() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            init.reset().await;
        })
        .await;
    let reply = reply.unwrap();
    assert_eq!(fault(&reply).1, "Task timed out after 3.00 seconds");
    assert!(tail(&reply).contains("\tDuration: 3000.00 ms\tBilled Duration: "), "{}", tail(&reply));
    assert!(tail(&reply).ends_with("Status: timeout\n"));
    assert!(stage.driver.events().contains(&Event::MemoryMarkReset(init.sandbox)));

    let (reply, ()) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            init.log("importing again").await;
            init.init_done(InitOutcome::Ready).await;
            init.respond(&invoke.request_id, b"2").await;
            init.done(&invoke.request_id).await;
        })
        .await;
    let text = tail(&reply.unwrap());
    assert!(text.starts_with("importing again\nSTART RequestId"), "{text}");
    assert!(!text.contains("Init Duration"), "{text}");
    let stats = stage.host.worker.stats();
    assert_eq!((stats.timeouts.get(), stats.reruns.get(), stats.resets.get()), (1, 1, 1));
    assert_eq!(stage.driver.machines(), [init.sandbox], "the sandbox stayed");
}

#[tokio::test(start_paused = true)]
async fn an_init_that_ignores_the_reset_is_destroyed() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            assert!(matches!(init.hear().await, Some(ToInit::Reset(_))));
            init.log("still here").await;
        })
        .await;
    assert_eq!(fault(&reply.unwrap()).0, "Sandbox.Timedout");
    stage.all_gone().await;
    let gone = stage.host.manager.recv().await;
    assert!(
        matches!(gone, Some(ManagerRequest::Event(WorkerEvent::Gone { sandbox })) if sandbox == init.sandbox)
    );
    assert!(booted.environment.is_gone());
}

#[tokio::test(start_paused = true)]
async fn never_asking_for_next_is_a_timeout_after_the_answer() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let lease = stage.host.lease(&booted.environment);
    let (reply, ()) = tokio::join!(lease.invoke(call("1", false), Box::new(())), async {
        let invoke = init.invoked().await;
        init.respond(&invoke.request_id, b"1").await;
    });
    assert_eq!(body(&reply.unwrap()), "1");
    init.reset().await;
    stage.host.returns.recv().await.unwrap();
    let lines = stage.host.lines(&stage.spec).await;
    assert!(lines.last().unwrap().ends_with("Status: timeout"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn exits_crashes_and_memory_have_their_own_words() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    for (exit, oom_kills, expected) in [
        (Exit::Code(0), 0, "Runtime exited without providing a reason"),
        (Exit::Code(3), 0, "Runtime exited with error: exit status 3"),
        (Exit::Signal(11), 0, "Runtime exited with error: signal: segmentation fault"),
        (Exit::Signal(9), 0, "Runtime exited with error: signal: killed"),
        (Exit::Signal(9), 1, "Runtime exited with error: signal: killed"),
    ] {
        let first = stage.host.worker.stats().resets.get() == 0;
        let (reply, ()) = stage
            .invoke(&booted, async {
                init.invoked().await;
                if !first {
                    init.init_done(InitOutcome::Ready).await;
                }
                stage.driver.set_stats(init.sandbox, Stats { oom_kills, ..Stats::default() });
                init.say(FromInit::Exited(exit)).await;
                init.reset().await;
            })
            .await;
        let (error_type, message) = fault(reply.as_ref().unwrap());
        assert_eq!(message, expected);
        let oom = oom_kills > 0;
        assert_eq!(error_type, if oom { "Runtime.OutOfMemory" } else { "Runtime.ExitError" });
        let status = format!("Status: error\tError Type: {error_type}\n");
        assert!(tail(&reply.unwrap()).ends_with(&status));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reported_error_passes_unchanged_and_the_text_report_is_silent() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            init.say(FromInit::Failure {
                request_id: invoke.request_id.clone(),
                error_type: "Function.Boom".into(),
                body: b"{\"errorMessage\":\"boom\"}".to_vec(),
            })
            .await;
            init.done(&invoke.request_id).await;
        })
        .await;
    let reply = reply.unwrap();
    let Outcome::FunctionError { error_type, body } = &reply.outcome else { panic!("{reply:?}") };
    assert_eq!(
        (error_type.as_str(), &body[..]),
        ("Function.Boom", &b"{\"errorMessage\":\"boom\"}"[..])
    );
    assert!(!tail(&reply).contains("Status:"), "{}", tail(&reply));
    assert_eq!(stage.host.worker.stats().errors.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn json_logs_carry_records_and_obey_levels() {
    let mut stage = Stage::with(
        |_| {},
        |spec| {
            spec.log.format = LogFormat::Json;
            spec.log.system_level = LogLevel::Debug;
            spec.log.application_level = LogLevel::Warn;
        },
    )
    .await;
    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            init.log("{\"level\":\"INFO\",\"message\":\"unwanted\"}").await;
            init.log("{\"level\":\"ERROR\",\"message\":\"wanted\"}").await;
            init.log("plain").await;
            init.respond(&invoke.request_id, b"1").await;
            init.done(&invoke.request_id).await;
        })
        .await;
    let text = tail(&reply.unwrap());
    let types: Vec<String> = text
        .lines()
        .map(|line| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(record) if record["type"].is_string() => record["type"].as_str().unwrap().into(),
            _ => line.to_owned(),
        })
        .collect();
    assert_eq!(
        types,
        [
            "platform.initStart",
            "platform.initRuntimeDone",
            "platform.initReport",
            "platform.start",
            "{\"level\":\"ERROR\",\"message\":\"wanted\"}",
            "plain",
            "platform.runtimeDone",
            "platform.report",
        ]
    );
    let report: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(report["record"]["status"], "success");
    assert!(report["record"]["metrics"]["initDurationMs"].is_number());
}

#[tokio::test(start_paused = true)]
async fn a_failed_init_keeps_the_environment_and_is_repeated() {
    let mut stage = Stage::new().await;
    let failing = async {
        let mut init = Init::new(stage.births.recv().await.unwrap());
        init.hello().await;
        let body = b"{\"errorMessage\":\"no module\"}".to_vec();
        let error_type = "Runtime.ImportModuleError".to_owned();
        init.init_done(InitOutcome::Reported { error_type, body }).await;
        init.reset().await;
        init
    };
    let (booted, mut init) = tokio::join!(stage.host.boot(&stage.spec), failing);
    let booted = booted.unwrap();
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            let body = b"{\"errorMessage\":\"again\"}".to_vec();
            let error_type = "Runtime.ImportModuleError".to_owned();
            init.init_done(InitOutcome::Reported { error_type, body }).await;
            init.reset().await;
        })
        .await;
    let reply = reply.unwrap();
    let Outcome::FunctionError { body, .. } = &reply.outcome else { panic!("{reply:?}") };
    assert_eq!(&body[..], b"{\"errorMessage\":\"again\"}");
    let text = tail(&reply);
    let expected = "Status: error\tError Type: Runtime.ImportModuleError";
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("Phase: init\t") && lines[0].ends_with(expected), "{text}");
    assert!(lines[1].contains("Phase: invoke\t") && lines[1].ends_with(expected), "{text}");
    assert!(lines[2].starts_with("START"), "{text}");
    assert!(lines[4].ends_with(expected) && !lines[4].contains("Init Duration"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_init_beyond_ten_seconds_is_ended_and_paid_again() {
    let mut stage = Stage::new().await;
    let slow = async {
        let mut init = Init::new(stage.births.recv().await.unwrap());
        init.hello().await;
        init.reset().await;
        init
    };
    let (booted, mut init) = tokio::join!(stage.host.boot(&stage.spec), slow);
    let booted = booted.unwrap();
    assert!(booted.timings.init >= Duration::from_secs(10), "{:?}", booted.timings);
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            // The function's own timeout covers this Init.
            init.reset().await;
        })
        .await;
    let reply = reply.unwrap();
    assert_eq!(fault(&reply).1, "Task timed out after 3.00 seconds");
    let text = tail(&reply);
    assert!(text.starts_with("INIT_REPORT Init Duration: 100"), "{text}");
    assert!(text.contains("Phase: init\tStatus: timeout\nINIT_REPORT Init Duration: 3000.00 ms\tPhase: invoke\tStatus: timeout\nSTART"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_provisioned_environment_is_initialised_before_any_call_and_says_so() {
    let mut stage = Stage::new().await;
    let start = async {
        let birth = stage.births.recv().await.unwrap();
        assert_eq!(birth.spec.init_secs_max, 130, "no CPU ceiling holds before");
        let mut init = Init::new(birth);
        init.say(FromInit::Hello { protocol: PROTOCOL }).await;
        let Some(ToInit::Start(start)) = init.hear().await else { panic!() };
        // Longer than an Init on demand may take.
        tokio::time::sleep(Duration::from_secs(100)).await;
        init.init_done(InitOutcome::Ready).await;
        (start, init)
    };
    let (booted, (start, mut init)) = tokio::join!(stage.host.provision(&stage.spec), start);
    let booted = booted.unwrap();
    let kind = ("AWS_LAMBDA_INITIALIZATION_TYPE".to_owned(), "provisioned-concurrency".to_owned());
    assert!(start.env.contains(&kind));

    let (reply, ()) = stage.invoke(&booted, init.echo()).await;

    let text = tail(&reply.unwrap());
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("INIT_REPORT Init Duration: 100"), "{text}");
    assert!(first.ends_with("Phase: init\tStatus: success"), "{text}");
    let report = text.lines().last().unwrap();
    assert!(report.starts_with("REPORT") && !report.contains("Init Duration"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_provisioned_environment_whose_init_fails_is_none() {
    let mut stage = Stage::new().await;
    let failing = async {
        let mut init = Init::new(stage.births.recv().await.unwrap());
        init.hello().await;
        let (error_type, body) = ("Runtime.ImportModuleError".to_owned(), b"{}".to_vec());
        init.init_done(InitOutcome::Reported { error_type, body }).await;
        init.reset().await;
        init.hear().await
    };
    let (booted, heard) = tokio::join!(stage.host.provision(&stage.spec), failing);
    let what = "Runtime.ImportModuleError".to_owned();
    assert_eq!(booted.unwrap_err(), BootError::InitFailed { what });
    assert_eq!(heard, None, "the sandbox is gone");

    let slow = async {
        let mut init = Init::new(stage.births.recv().await.unwrap());
        init.hello().await;
        init.hear().await
    };
    let begun = tokio::time::Instant::now();
    let (booted, heard) = tokio::join!(stage.host.provision(&stage.spec), slow);
    assert_eq!(booted.unwrap_err(), BootError::InitFailed { what: "timeout".to_owned() });
    let why = ToInit::Reset(ShutdownReason::Timeout);
    assert_eq!(heard, Some(why), "extensions that started hear of it");
    assert!(begun.elapsed() >= Duration::from_secs(130), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_provisioned_environment_is_not_reset_but_ends() {
    let mut stage = Stage::new().await;
    let ready = async {
        let mut init = Init::new(stage.births.recv().await.unwrap());
        init.ready().await;
        init
    };
    let (booted, mut init) = tokio::join!(stage.host.provision(&stage.spec), ready);
    let booted = booted.unwrap();
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            init.say(FromInit::Exited(Exit::Code(1))).await;
        })
        .await;
    assert_eq!(fault(&reply.unwrap()).1, "Runtime exited with error: exit status 1");
    assert_eq!(init.hear().await, None, "the sandbox is gone");
    assert!(booted.environment.is_gone());
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_ends_while_idle_is_started_again() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    init.say(FromInit::Exited(Exit::Code(1))).await;
    init.reset().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            init.init_done(InitOutcome::Ready).await;
            init.respond(&invoke.request_id, b"3").await;
            init.done(&invoke.request_id).await;
        })
        .await;
    let reply = reply.unwrap();
    assert_eq!(body(&reply), "3");
    assert!(!tail(&reply).contains("Init Duration"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_entry_and_a_too_large_response_are_faults() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            init.say(FromInit::TooLarge { request_id: invoke.request_id.clone() }).await;
            init.done(&invoke.request_id).await;
        })
        .await;
    assert_eq!(fault(&reply.unwrap()).0, "Function.ResponseSizeTooLarge");
    init.say(FromInit::Exited(Exit::Code(1))).await;
    init.reset().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            init.init_done(InitOutcome::NoEntry).await;
            init.reset().await;
        })
        .await;
    assert_eq!(fault(&reply.unwrap()).0, "Runtime.InvalidEntrypoint");
}

#[tokio::test(start_paused = true)]
async fn nonsense_from_init_ends_the_sandbox_and_says_so() {
    let nonsense: [(&str, Says); 6] = [
        ("a stale answer", |_| {
            vec![FromInit::Response {
                request_id: "stale".into(),
                content_type: None,
                body: vec![1],
            }]
        }),
        ("an end without an answer", |id| {
            vec![FromInit::Done { request_id: id.into(), handler_ns: 1 }]
        }),
        ("a second hello", |_| vec![FromInit::Hello { protocol: PROTOCOL }]),
        ("a reset nobody asked for", |_| vec![FromInit::ResetDone]),
        ("an init nobody asked for", |_| {
            vec![FromInit::InitDone { outcome: InitOutcome::Ready, duration_ns: 0 }]
        }),
        ("the end of another", |_| {
            vec![FromInit::Done { request_id: "other".into(), handler_ns: 1 }]
        }),
    ];
    for (what, messages) in nonsense {
        let mut stage = Stage::new().await;
        let (booted, mut init) = stage.booted().await;
        let (reply, ()) = stage
            .invoke(&booted, async {
                let invoke = init.invoked().await;
                for message in messages(&invoke.request_id) {
                    init.say(message).await;
                }
            })
            .await;
        let Outcome::Fault(fault) = reply.unwrap().outcome else { panic!("{what}") };
        assert_eq!(fault.kind, FaultKind::Sandbox, "{what}");
        stage.all_gone().await;
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_and_a_lost_init_end_the_sandbox() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            init.channel.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        })
        .await;
    assert_eq!(fault(&reply.unwrap()).0, "Sandbox.Failure");
    stage.all_gone().await;

    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            drop(init);
        })
        .await;
    assert_eq!(fault(&reply.unwrap()), ("Sandbox.Failure", "the sandbox ended".to_owned()));
    stage.all_gone().await;

    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            init.invoked().await;
            stage.driver.set_stats(init.sandbox, Stats { oom_kills: 1, ..Stats::default() });
            drop(init);
        })
        .await;
    assert_eq!(fault(&reply.unwrap()).0, "Runtime.OutOfMemory");
    stage.all_gone().await;

    let (booted, init) = stage.booted().await;
    drop(init);
    eventually("an idle one is noticed too", || booted.environment.is_gone()).await;
    stage.all_gone().await;
    let lease = stage.host.lease(&booted.environment);
    let refused = lease.invoke(call("1", true), Box::new(7_u32)).await.unwrap_err();
    let InvokeError::NotStarted { hold, call } = refused else { panic!("{refused:?}") };
    assert_eq!(hold.downcast_ref::<u32>(), Some(&7));
    assert_eq!(&call.payload[..], b"1");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_logs_is_bounded_and_said() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            for _ in 0..200 {
                init.log(&"x".repeat(200_000)).await;
            }
            init.respond(&invoke.request_id, b"1").await;
            init.done(&invoke.request_id).await;
        })
        .await;
    let reply = reply.unwrap();
    assert!(reply.log_tail.as_ref().unwrap().len() <= 4_096);
    assert!(tail(&reply).contains("LOGS_DROPPED Records: "), "{}", tail(&reply));
    let lines = stage.host.lines(&stage.spec).await;
    assert!(lines.last().unwrap().starts_with("REPORT"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_environment_is_frozen_and_thawed_for_work() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let sandbox = init.sandbox;
    eventually("it freezes", || stage.driver.is_frozen(sandbox) == Some(true)).await;
    assert_eq!(stage.host.worker.stats().frozen.get(), 1);
    let (reply, ()) = stage
        .invoke(&booted, async {
            let invoke = init.invoked().await;
            assert_eq!(stage.driver.is_frozen(sandbox), Some(false), "thawed before the event");
            init.respond(&invoke.request_id, b"1").await;
            init.done(&invoke.request_id).await;
        })
        .await;
    assert_eq!(body(&reply.unwrap()), "1");
    eventually("and again", || stage.driver.is_frozen(sandbox) == Some(true)).await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_cannot_freeze_works_on() {
    let mut stage = Stage::new().await;
    let step = "freeze".to_owned();
    let source = std::io::ErrorKind::Unsupported.into();
    stage.driver.fail_next_freeze(DriverError::Step { step, source });
    let (booted, mut init) = stage.booted().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.driver.is_frozen(init.sandbox), Some(false));
    let (reply, ()) = stage.invoke(&booted, init.echo()).await;
    assert_eq!(body(&reply.unwrap()), "{\"k\":1}");
}

#[tokio::test(start_paused = true)]
async fn boots_that_fail_say_why_and_leave_nothing() {
    let mut stage = Stage::new().await;
    let mut missing = (*stage.spec).clone();
    missing.code = lamu_model::Digest::of(b"nowhere");
    let error = stage.host.boot(&Arc::new(missing)).await.unwrap_err();
    assert!(matches!(error, BootError::PackageMissing { .. }), "{error}");
    let mut java = (*stage.spec).clone();
    java.runtime = lamu_model::Runtime::new("java21");
    let error = stage.host.boot(&Arc::new(java)).await.unwrap_err();
    assert!(matches!(error, BootError::RuntimeMissing { .. }), "{error}");

    stage.driver.fail_next_claim(DriverError::NoRoom { what: "full".into() });
    let error = stage.host.boot(&stage.spec).await.unwrap_err();
    assert_eq!(error, BootError::NoRoom { what: "full".into() });

    let silent = async { Init::new(stage.births.recv().await.unwrap()) };
    let (booted, _init) = tokio::join!(stage.host.boot(&stage.spec), silent);
    assert!(matches!(booted, Err(BootError::Silent { .. })), "{booted:?}");

    let older = async {
        let mut init = Init::new(stage.births.recv().await.unwrap());
        init.say(FromInit::Hello { protocol: PROTOCOL + 1 }).await;
        init
    };
    let (booted, _init) = tokio::join!(stage.host.boot(&stage.spec), older);
    assert!(matches!(booted, Err(BootError::Sandbox { .. })), "{booted:?}");

    let mut huge = (*stage.spec).clone();
    huge.memory_mib = 10_000;
    let error = stage.host.boot(&Arc::new(huge)).await.unwrap_err();
    assert!(matches!(error, BootError::NoRoom { .. }), "{error}");
    stage.all_gone().await;
    assert_eq!(stage.driver.shells(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_boot_leaves_no_machine() {
    let mut stage = Stage::new().await;
    // While init is silent.
    let handle = stage.host.worker.handle().clone();
    let (epoch, version) = (stage.host.epoch, stage.spec.clone());
    let boot = tokio::spawn(async move { handle.boot(new_sandbox(), epoch, &version).await });
    let init = Init::new(stage.births.recv().await.unwrap());
    boot.abort();
    stage.all_gone().await;
    drop(init);
    // After it was made, by losing the reply.
    let (booted, init) = stage.booted().await;
    drop(booted);
    stage.all_gone().await;
    drop(init);
}

#[tokio::test(start_paused = true)]
async fn a_used_environment_outlives_its_manager_and_is_adopted() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (reply, ()) = stage.invoke(&booted, init.echo()).await;
    reply.unwrap();
    let old = stage.host.lease(&booted.environment);
    drop(booted);
    let (second, mut events) = ManagerHandle::new();
    let worker = stage.host.worker.handle().clone();
    let reports = worker.adopt(Epoch(2), second).await.unwrap();
    assert_eq!(reports.len(), 1);
    assert!(!reports[0].busy);

    // What the old manager gave out is refused, and it may command no more.
    let refused = old.invoke(call("1", true), Box::new(())).await.unwrap_err();
    assert!(matches!(refused, InvokeError::NotStarted { .. }), "{refused:?}");
    let error = stage.host.boot(&stage.spec).await.unwrap_err();
    assert_eq!(error, BootError::Fenced);
    assert!(worker.adopt(Epoch(1), stage.host.manager_handle.clone()).await.is_err());
    worker.retire(init.sandbox, Epoch(1)).await.unwrap();

    stage.host.epoch = Epoch(2);
    let (reply, ()) = tokio::join!(stage.host.invoke(&reports[0].environment, "5"), init.echo());
    assert_eq!(body(&reply.unwrap()), "5");
    worker.retire(init.sandbox, Epoch(2)).await.unwrap();
    stage.all_gone().await;
    let gone = events.recv().await;
    assert!(matches!(gone, Some(ManagerRequest::Event(WorkerEvent::Gone { .. }))), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_manager_hears_when_a_busy_environment_comes_free() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let running = {
        let lease = stage.host.lease(&booted.environment);
        tokio::spawn(lease.invoke(call("1", true), Box::new(())))
    };
    let invoke = init.invoked().await;
    let (second, mut events) = ManagerHandle::new();
    let reports = stage.host.worker.handle().adopt(Epoch(2), second).await.unwrap();
    assert!(reports[0].busy);
    init.respond(&invoke.request_id, b"1").await;
    init.done(&invoke.request_id).await;
    assert_eq!(body(&running.await.unwrap().unwrap()), "1", "it was not disturbed");
    let event = events.recv().await;
    let Some(ManagerRequest::Event(WorkerEvent::Idle(report))) = event else { panic!("{event:?}") };
    assert_eq!(report.environment.sandbox, init.sandbox);
}

#[tokio::test(start_paused = true)]
async fn an_environment_made_for_an_older_manager_is_told_to_the_new_one() {
    let mut stage = Stage::new().await;
    let handle = stage.host.worker.handle().clone();
    let (epoch, version) = (stage.host.epoch, stage.spec.clone());
    let boot = tokio::spawn(async move { handle.boot(new_sandbox(), epoch, &version).await });
    let mut init = Init::new(stage.births.recv().await.unwrap());
    let (second, mut events) = ManagerHandle::new();
    let reports = stage.host.worker.handle().adopt(Epoch(2), second).await.unwrap();
    assert!(reports.is_empty());
    init.ready().await;
    let _old = boot.await.unwrap().unwrap();
    let event = events.recv().await;
    assert!(matches!(event, Some(ManagerRequest::Event(WorkerEvent::Idle(_)))), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_invocations_and_no_longer_than_its_patience() {
    let mut stage = Stage::new().await;
    let (idle, _idle_init) = stage.booted().await;
    let (busy, mut init) = stage.booted().await;
    let (stuck, mut stuck_init) = stage.booted().await;
    let calls: Vec<_> = [&busy, &stuck]
        .map(|booted| stage.host.lease(&booted.environment))
        .into_iter()
        .map(|lease| tokio::spawn(lease.invoke(call("1", true), Box::new(()))))
        .collect();
    let invoke = init.invoked().await;
    stuck_init.invoked().await;
    let worker = stage.host.worker.handle().clone();
    let drain = tokio::spawn(async move { worker.drain(Duration::from_secs(1)).await });
    eventually("the idle one goes at once", || idle.environment.is_gone()).await;
    assert_eq!(stage.host.boot(&stage.spec).await.unwrap_err(), BootError::Draining);
    init.respond(&invoke.request_id, b"1").await;
    init.done(&invoke.request_id).await;
    drain.await.unwrap().unwrap();
    assert!(stage.driver.machines().is_empty(), "answered when nothing is left");
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    assert_eq!(body(outcomes[0].as_ref().unwrap()), "1");
    assert!(matches!(outcomes[1], Err(InvokeError::Lost)), "{:?}", outcomes[1]);
    let mut left = false;
    while let Ok(request) = stage.host.placement.try_recv() {
        left |= matches!(request, PlacementRequest::Leave { .. });
    }
    assert!(left, "placement was told");
}

#[tokio::test(start_paused = true)]
async fn placement_hears_the_load_as_it_changes() {
    let mut stage = Stage::new().await;
    let joined = stage.host.placement.recv().await;
    assert!(matches!(joined, Some(PlacementRequest::Join { .. })), "{joined:?}");
    let (booted, _init) = stage.booted().await;
    let load = stage.host.placement.recv().await;
    let Some(PlacementRequest::Load { load, .. }) = load else { panic!("{load:?}") };
    assert_eq!(load, Load { environments: 1, memory_mib: 128 });
    drop(booted);
    let load = stage.host.placement.recv().await;
    let Some(PlacementRequest::Load { load, .. }) = load else { panic!("{load:?}") };
    assert_eq!(load, Load::default());
}

#[tokio::test(start_paused = true)]
async fn few_boots_run_at_the_same_time() {
    let mut stage = Stage::with(|config| config.boots_max = 1, |_| {}).await;
    let handle = stage.host.worker.handle().clone();
    let (epoch, version) = (stage.host.epoch, stage.spec.clone());
    let boots: Vec<_> = (0..3)
        .map(|_| {
            let (handle, version) = (handle.clone(), version.clone());
            tokio::spawn(async move { handle.boot(new_sandbox(), epoch, &version).await })
        })
        .collect();
    let mut inits = Vec::new();
    let mut init = Init::new(stage.births.recv().await.unwrap());
    tokio::task::yield_now().await;
    assert!(stage.births.try_recv().is_err(), "the second waits for the first");
    init.ready().await;
    inits.push(init);
    // The second sleeps in its Init; the third does not wait for that.
    let mut sleeper = Init::new(stage.births.recv().await.unwrap());
    sleeper.hello().await;
    let mut third = Init::new(stage.births.recv().await.unwrap());
    third.ready().await;
    sleeper.init_done(InitOutcome::Ready).await;
    for boot in boots {
        boot.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn preparing_finds_what_a_boot_would_miss() {
    let stage = Stage::new().await;
    stage.host.worker.handle().prepare(&stage.spec).await.unwrap();
    assert!(stage.host.worker.package_cache_bytes() > 0);
    let mut missing = (*stage.spec).clone();
    missing.layers = vec![lamu_model::Digest::of(b"nowhere")];
    let error = stage.host.worker.handle().prepare(&Arc::new(missing)).await.unwrap_err();
    assert!(matches!(error, BootError::PackageMissing { .. }), "{error}");
    assert!(stage.driver.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_mounted_and_set_follows_the_version() {
    let mut stage = Stage::with(
        |config| config.cpu_share = lamu_worker::CpuShare::Aws,
        |spec| {
            spec.memory_mib = 1_769;
            spec.environment = BTreeMap::from([("KEY".to_owned(), "value".to_owned())]);
        },
    )
    .await;
    let layer = stage.host.package(&[("bin/tool", b"x")]).await;
    Arc::make_mut(&mut stage.spec).layers = vec![layer];
    let start = async {
        let birth = stage.births.recv().await.unwrap();
        let claimed = birth.spec.clone();
        let mut init = Init::new(birth);
        init.say(FromInit::Hello { protocol: PROTOCOL }).await;
        let Some(ToInit::Start(start)) = init.hear().await else { panic!() };
        init.init_done(InitOutcome::Ready).await;
        (claimed, start, init)
    };
    let (booted, (claimed, start, init)) = tokio::join!(stage.host.boot(&stage.spec), start);
    let _booted = booted.unwrap();
    assert_eq!((claimed.cpu_millis, claimed.cpu_millis_max), (1_000, Some(1_000)));
    assert_eq!((claimed.memory_mib, claimed.tmp_mib), (1_769, 512));
    let targets: Vec<_> = claimed.mounts.iter().map(|mount| mount.target.as_path()).collect();
    assert_eq!(targets, [std::path::Path::new("/var/task"), std::path::Path::new("/opt")]);
    assert!(claimed.mounts[1].sources[0].join("bin/tool").is_file());
    assert!(start.env.contains(&("KEY".to_owned(), "value".to_owned())));
    assert!(start.env.contains(&("_HANDLER".to_owned(), "app.handler".to_owned())));
    assert!(!start.telemetry_fd);
    eventually("the CPU ceiling holds after Init", || {
        stage.driver.events().contains(&Event::CpuHeld(init.sandbox))
    })
    .await;
}
