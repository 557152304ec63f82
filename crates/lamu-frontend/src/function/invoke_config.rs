//! How asynchronous invocations of one qualifier are retried and where their
//! results go ("Async configuration" of the API reference, "Destinations" of
//! the invocation reference).
//!
//! Not here: where it is stored (`beside`), delivering anything.

use lamu_api::Timestamp;
use lamu_api::shapes::{DestinationConfig, FunctionEventInvokeConfig, OnFailure, OnSuccess};
use lamu_model::{Arn, FunctionName, FunctionRef, NameFamily};
use serde::{Deserialize, Serialize};

use super::document::FunctionKey;
use super::refusal::Refusal;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvokeConfig {
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
    /// Absent members have the service's defaults, which a later service may
    /// change: 2 attempts, 6 hours.
    pub retries_max: Option<i32>,
    pub age_secs_max: Option<i32>,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
}

/// The members of a Put or an Update.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub retries_max: Option<i32>,
    pub age_secs_max: Option<i32>,
    pub destinations: Option<&'a DestinationConfig>,
}

impl Wanted<'_> {
    /// Checks it for a function; `exists` knows the functions around it.
    pub fn check(
        &self,
        function: &FunctionKey,
        exists: impl Fn(&FunctionName) -> bool,
    ) -> Result<(), Refusal> {
        if self.retries_max.is_none() && self.age_secs_max.is_none() && self.destinations.is_none()
        {
            return Err(Refusal::invalid(
                "You must specify at least one of error handling or destination setting.",
            ));
        }
        let Some(destinations) = self.destinations else { return Ok(()) };
        let (success, failure) = (on_success(destinations), on_failure(destinations));
        let mut takes = true;
        if let Some(arn) = failure {
            takes &= check_destination(function, arn, Outcome::Failure, &exists)?;
        }
        if let Some(arn) = success {
            takes &= check_destination(function, arn, Outcome::Success, &exists)?;
        }
        if takes {
            return Ok(());
        }
        let said = |name: &str, arn: Option<&str>| match arn {
            Some(arn) => format!("{name}(destination={arn})"),
            None => "null".to_owned(),
        };
        Err(Refusal::invalid(format!(
            "The provided destination config DestinationConfig(onSuccess={}, onFailure={}) is invalid.",
            said("OnSuccess", success),
            said("OnFailure", failure),
        )))
    }

    /// The config that a Put makes: what is absent is reset.
    pub fn made(&self, now_ms: i64) -> InvokeConfig {
        self.merged(&InvokeConfig::default(), now_ms)
    }

    /// What an Update makes of a config: what is absent stays, and
    /// destinations are replaced together.
    pub fn merged(&self, current: &InvokeConfig, now_ms: i64) -> InvokeConfig {
        let mut config = InvokeConfig { modified_ms: now_ms, ..current.clone() };
        config.retries_max = self.retries_max.or(config.retries_max);
        config.age_secs_max = self.age_secs_max.or(config.age_secs_max);
        if let Some(destinations) = self.destinations {
            config.on_success = on_success(destinations).map(str::to_owned);
            config.on_failure = on_failure(destinations).map(str::to_owned);
        }
        config
    }
}

/// As the API shows it, under a qualified ARN.
pub fn render(arn: &Arn, config: &InvokeConfig) -> FunctionEventInvokeConfig {
    FunctionEventInvokeConfig {
        destination_config: Some(DestinationConfig {
            on_success: Some(OnSuccess { destination: config.on_success.clone() }),
            on_failure: Some(OnFailure { destination: config.on_failure.clone() }),
        }),
        function_arn: Some(arn.to_string()),
        last_modified: Some(Timestamp::from_millis(config.modified_ms)),
        maximum_event_age_in_seconds: config.age_secs_max,
        maximum_retry_attempts: config.retries_max,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Failure,
}

fn on_success(config: &DestinationConfig) -> Option<&str> {
    config.on_success.as_ref()?.destination.as_deref().filter(|arn| !arn.is_empty())
}

fn on_failure(config: &DestinationConfig) -> Option<&str> {
    config.on_failure.as_ref()?.destination.as_deref().filter(|arn| !arn.is_empty())
}

/// Whether a result can go there: standard queues and topics, event buses,
/// functions, and buckets for failures. The model has checked the form.
fn check_destination(
    function: &FunctionKey,
    arn: &str,
    outcome: Outcome,
    exists: &impl Fn(&FunctionName) -> bool,
) -> Result<bool, Refusal> {
    match arn.split(':').nth(2) {
        Some("lambda") => {
            let invalid = || Refusal::invalid(format!("The destination ARN {arn} is invalid."));
            let target = FunctionRef::parse(arn, NameFamily::Strict).map_err(|_| invalid())?;
            let here = target.region.as_ref() == Some(&function.region)
                && target.account.as_ref() == Some(&function.account);
            if !here || !exists(&target.name) {
                return Err(invalid());
            }
            if target.name == function.name {
                return Err(Refusal::invalid(
                    "You can't specify the function as a destination for itself.",
                ));
            }
            Ok(true)
        }
        Some("sqs" | "sns") => Ok(!arn.ends_with(".fifo")),
        Some("events") => Ok(true),
        Some("s3") => Ok(outcome == Outcome::Failure),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::document::tests::key;

    fn destinations(success: &str, failure: &str) -> DestinationConfig {
        let some = |arn: &str| Some(arn.to_owned());
        DestinationConfig {
            on_success: Some(OnSuccess { destination: some(success) }),
            on_failure: Some(OnFailure { destination: some(failure) }),
        }
    }

    fn check(success: &str, failure: &str) -> Result<(), String> {
        let config = destinations(success, failure);
        let wanted = Wanted { retries_max: None, age_secs_max: None, destinations: Some(&config) };
        let exists = |name: &FunctionName| ["f", "g"].contains(&name.as_str());
        wanted.check(&key("f"), exists).map_err(|refusal| match refusal {
            Refusal::Invalid(text) => text,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn results_go_to_queues_topics_buses_functions_and_failures_to_buckets_too() {
        let arn = |rest: &str| format!("arn:aws:{rest}");
        for good in [
            "sqs:us-east-1:000000000000:q",
            "sns:us-east-1:000000000000:t",
            "events:us-east-1:000000000000:event-bus/b",
            "lambda:us-east-1:000000000000:function:g",
            "lambda:us-east-1:000000000000:function:g:prod",
        ] {
            assert_eq!(check(&arn(good), ""), Ok(()), "{good}");
            assert_eq!(check("", &arn(good)), Ok(()), "{good}");
        }
        assert_eq!(check("", "arn:aws:s3:::bucket"), Ok(()));
    }

    #[test]
    fn a_destination_that_takes_no_results_is_refused_in_the_services_words() {
        let fifo = "arn:aws:sqs:us-east-1:000000000000:q.fifo";
        for (success, failure, text) in [
            (
                "arn:aws:s3:::bucket",
                "",
                "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:s3:::bucket), onFailure=null) is invalid.".to_owned(),
            ),
            (
                "",
                fifo,
                format!("The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination={fifo})) is invalid."),
            ),
            (
                "",
                "kafka://topic",
                "The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination=kafka://topic)) is invalid.".to_owned(),
            ),
            (
                "arn:aws:lambda:us-east-1:000000000000:function:f:1",
                "",
                "You can't specify the function as a destination for itself.".to_owned(),
            ),
            (
                "arn:aws:lambda:us-east-1:000000000000:function:missing",
                "",
                "The destination ARN arn:aws:lambda:us-east-1:000000000000:function:missing is invalid.".to_owned(),
            ),
            (
                "arn:aws:lambda:eu-west-1:000000000000:function:g",
                "",
                "The destination ARN arn:aws:lambda:eu-west-1:000000000000:function:g is invalid.".to_owned(),
            ),
        ] {
            assert_eq!(check(success, failure), Err(text));
        }
    }

    #[test]
    fn something_must_be_asked_for() {
        let nothing = Wanted { retries_max: None, age_secs_max: None, destinations: None };
        assert!(matches!(nothing.check(&key("f"), |_| true), Err(Refusal::Invalid(_))));
        let zero = Wanted { retries_max: Some(0), ..nothing };
        assert!(zero.check(&key("f"), |_| true).is_ok());
    }

    #[test]
    fn a_put_resets_what_an_update_keeps() {
        let config = destinations("arn:aws:sqs:us-east-1:000000000000:q", "");
        let first =
            Wanted { retries_max: Some(1), age_secs_max: None, destinations: Some(&config) };
        let first = first.made(1);
        let age = Wanted { retries_max: None, age_secs_max: Some(60), destinations: None };

        let merged = age.merged(&first, 2);
        assert_eq!((merged.retries_max, merged.age_secs_max), (Some(1), Some(60)));
        assert_eq!((merged.on_success, merged.modified_ms), (first.on_success, 2));

        let made = age.made(3);
        assert_eq!((made.retries_max, made.on_success), (None, None));
    }

    #[test]
    fn destinations_are_always_shown_and_limits_only_when_set() {
        let arn = key("f").arn().qualified("$LATEST");
        let config = InvokeConfig { modified_ms: 1_500, ..InvokeConfig::default() };
        let shown = serde_json::to_value(render(&arn, &config)).unwrap();
        let expected = serde_json::json!({
            "DestinationConfig": {"OnFailure": {}, "OnSuccess": {}},
            "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST",
            "LastModified": 1.5,
        });
        assert_eq!(shown, expected);
    }
}
