//! Tables of decisions: identity and resource policies, within an account and
//! between two.
//!
//! Not here: reading policies (`document`).

use chrono::Utc;
use lamu_model::AccountId;
use serde_json::{Value, json};

use super::Refused::*;
use super::*;
use crate::policy::document::Attached;
use crate::policy::principal::Principal;

const HOME: &str = "111111111111";
const FUNCTION: &str = "arn:aws:lambda:us-east-1:111111111111:function:f";

fn policy(statements: Value, attached: Attached) -> Policy {
    Policy::of(&json!({"Version": "2012-10-17", "Statement": statements}), attached).unwrap()
}

fn identity(statements: Value) -> Vec<Arc<Policy>> {
    vec![Arc::new(policy(statements, Attached::Identity))]
}

fn user(account: &str, statements: Value) -> Principal {
    Principal::user(AccountId::new(account), "alice", identity(statements))
}

fn ask(
    principal: &Principal,
    action: &str,
    on: &str,
    resource: Option<Value>,
) -> Result<(), Refused> {
    let resource = resource.map(|statements| policy(statements, Attached::Resource));
    let own = principal.account.as_ref().is_some_and(|account| account.as_str() == HOME);
    let owner = if own { Owner::Same } else { Owner::Other };
    let question = Question { action, resource: on, owner };
    let mut context = Context::new(principal, Utc::now());
    context.add("aws:SourceArn", "arn:aws:s3:::bucket");
    evaluate(&question, &context, resource.as_ref())
}

fn invoke(principal: &Principal, resource: Option<Value>) -> Result<(), Refused> {
    ask(principal, "lambda:InvokeFunction", FUNCTION, resource)
}

fn allow(principal: Value) -> Value {
    json!([{"Effect": "Allow", "Principal": principal, "Action": "lambda:InvokeFunction", "Resource": FUNCTION}])
}

fn deny(principal: Value) -> Value {
    json!([
        {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Principal": principal, "Action": "lambda:Invoke*", "Resource": "*"}
    ])
}

#[test]
fn in_one_account_either_side_is_enough_and_a_deny_wins() {
    let may = json!([{"Effect": "Allow", "Action": "lambda:*", "Resource": "*"}]);
    let may_not = json!([
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "lambda:InvokeFunction", "Resource": FUNCTION}
    ]);
    let alice = "arn:aws:iam::111111111111:user/alice";
    let table = [
        // identity, resource, outcome
        (json!([]), None, Err(NoIdentityPolicy)),
        (may.clone(), None, Ok(())),
        (json!([]), Some(allow(json!({"AWS": alice}))), Ok(())),
        (json!([]), Some(allow(json!("*"))), Ok(())),
        // The account is trusted to decide, and its policies have not.
        (json!([]), Some(allow(json!({"AWS": HOME}))), Err(NoIdentityPolicy)),
        (may.clone(), Some(allow(json!({"AWS": HOME}))), Ok(())),
        (json!([]), Some(allow(json!({"AWS": "222222222222"}))), Err(NoIdentityPolicy)),
        (may_not.clone(), None, Err(DenyOfIdentity)),
        (may_not.clone(), Some(allow(json!({"AWS": alice}))), Err(DenyOfIdentity)),
        (may.clone(), Some(deny(json!({"AWS": alice}))), Err(DenyOfResource)),
        (may.clone(), Some(deny(json!({"AWS": HOME}))), Err(DenyOfResource)),
        (may.clone(), Some(deny(json!({"AWS": "222222222222"}))), Ok(())),
        (may_not, Some(deny(json!("*"))), Err(DenyOfIdentity)),
    ];
    for (statements, resource, expected) in table {
        let got = invoke(&user(HOME, statements.clone()), resource.clone());
        assert_eq!(got, expected, "{statements} {resource:?}");
    }
}

#[test]
fn across_accounts_both_sides_must_allow() {
    let there = "222222222222";
    let may = json!([{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": FUNCTION}]);
    let table = [
        (json!([]), None, Err(NoIdentityPolicy)),
        (may.clone(), None, Err(NoResourcePolicy)),
        (json!([]), Some(allow(json!({"AWS": there}))), Err(NoIdentityPolicy)),
        (json!([]), Some(allow(json!("*"))), Err(NoIdentityPolicy)),
        (may.clone(), Some(allow(json!({"AWS": there}))), Ok(())),
        (may.clone(), Some(allow(json!("*"))), Ok(())),
        (may.clone(), Some(allow(json!({"AWS": "arn:aws:iam::222222222222:user/alice"}))), Ok(())),
        (
            may.clone(),
            Some(allow(json!({"AWS": "arn:aws:iam::222222222222:user/bob"}))),
            Err(NoResourcePolicy),
        ),
        (may.clone(), Some(allow(json!({"AWS": HOME}))), Err(NoResourcePolicy)),
        (may, Some(deny(json!({"AWS": there}))), Err(DenyOfResource)),
    ];
    for (statements, resource, expected) in table {
        let got = invoke(&user(there, statements.clone()), resource.clone());
        assert_eq!(got, expected, "{statements} {resource:?}");
    }
}

#[test]
fn the_root_of_an_account_needs_no_policy_at_home_and_one_of_the_owner_abroad() {
    let (home, there) =
        (Principal::root(AccountId::new(HOME)), Principal::root(AccountId::new("222222222222")));
    assert_eq!(invoke(&home, None), Ok(()));
    assert_eq!(invoke(&home, Some(deny(json!({"AWS": HOME})))), Err(DenyOfResource));
    assert_eq!(invoke(&there, None), Err(NoResourcePolicy));
    assert_eq!(invoke(&there, Some(allow(json!({"AWS": "222222222222"})))), Ok(()));
}

#[test]
fn services_and_strangers_are_allowed_by_the_resource_only() {
    let s3 = Principal::service("s3.amazonaws.com");
    let nobody = Principal::anonymous();
    let for_s3 = |condition: Value| {
        json!([{"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "lambda:InvokeFunction", "Resource": FUNCTION, "Condition": condition}])
    };
    let from_bucket = json!({"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}});
    let from_other = json!({"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::other"}});
    assert_eq!(invoke(&s3, None), Err(NoResourcePolicy));
    assert_eq!(invoke(&s3, Some(for_s3(json!({})))), Ok(()));
    assert_eq!(invoke(&s3, Some(for_s3(from_bucket))), Ok(()));
    assert_eq!(invoke(&s3, Some(for_s3(from_other))), Err(NoResourcePolicy));
    assert_eq!(invoke(&nobody, Some(for_s3(json!({})))), Err(NoResourcePolicy));
    assert_eq!(invoke(&nobody, Some(allow(json!({"AWS": HOME})))), Err(NoResourcePolicy));
    assert_eq!(invoke(&nobody, Some(allow(json!("*")))), Ok(()));
    assert_eq!(invoke(&nobody, Some(deny(json!("*")))), Err(DenyOfResource));
}

#[test]
fn actions_ignore_case_and_resources_do_not() {
    let table = [
        ("lambda:GetFunction", "*", true),
        ("LAMBDA:getfunction", "*", true),
        ("lambda:Get*", "*", true),
        ("lambda:*", FUNCTION, true),
        ("*", FUNCTION, true),
        ("lambda:GetFunctio?", FUNCTION, true),
        ("lambda:Invoke*", FUNCTION, false),
        ("s3:*", FUNCTION, false),
        ("lambda:*", "arn:aws:lambda:us-east-1:111111111111:function:F", false),
        ("lambda:*", "arn:aws:lambda:*:*:function:?", true),
        ("lambda:*", "arn:aws:lambda:us-east-1:111111111111:function:f:prod", false),
        ("lambda:*", "arn:aws:lambda:us-east-1:111111111111:function:${aws:username}", false),
    ];
    for (action, on, expected) in table {
        let alice = user(HOME, json!([{"Effect": "Allow", "Action": action, "Resource": on}]));
        let got = ask(&alice, "lambda:GetFunction", FUNCTION, None).is_ok();
        assert_eq!(got, expected, "{action} {on}");
    }
    let own = "arn:aws:lambda:us-east-1:111111111111:function:${aws:username}-*";
    let alice = user(HOME, json!([{"Effect": "Allow", "Action": "lambda:*", "Resource": own}]));
    let on = |name: &str| format!("arn:aws:lambda:us-east-1:111111111111:function:{name}");
    assert_eq!(ask(&alice, "lambda:GetFunction", &on("alice-1"), None), Ok(()));
    assert_eq!(ask(&alice, "lambda:GetFunction", &on("bob-1"), None), Err(NoIdentityPolicy));
}

#[test]
fn not_action_and_not_resource_cover_the_rest() {
    let alice = user(
        HOME,
        json!([{"Effect": "Allow", "NotAction": ["lambda:Delete*", "iam:*"], "NotResource": "arn:aws:lambda:*:*:function:secret*"}]),
    );
    assert_eq!(ask(&alice, "lambda:GetFunction", FUNCTION, None), Ok(()));
    assert_eq!(ask(&alice, "lambda:DeleteFunction", FUNCTION, None), Err(NoIdentityPolicy));
    let secret = "arn:aws:lambda:us-east-1:111111111111:function:secret-1";
    assert_eq!(ask(&alice, "lambda:GetFunction", secret, None), Err(NoIdentityPolicy));
}

/// A small random number generator, so that a failure repeats itself.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn statement(&mut self, effect: &str, attached: Attached) -> Value {
        let mut statement = json!({
            "Effect": effect,
            "Action": self.of(&["*", "lambda:*", "lambda:InvokeFunction", "lambda:GetFunction"]),
            "Resource": self.of(&["*", FUNCTION, "arn:aws:lambda:*:*:function:*", "arn:aws:s3:::b"]),
        });
        if attached == Attached::Resource {
            let who = self.of(&["*", HOME, "222222222222", "arn:aws:iam::111111111111:user/alice"]);
            statement["Principal"] = json!({"AWS": who});
        }
        if self.below(3) == 0 {
            let name = self.of(&["alice", "bob"]);
            statement["Condition"] = json!({"StringEquals": {"aws:username": name}});
        }
        statement
    }

    fn statements(&mut self, attached: Attached) -> Vec<Value> {
        let count = self.below(4);
        (0..count)
            .map(|_| {
                let effect = self.of(&["Allow", "Allow", "Deny"]);
                self.statement(effect, attached)
            })
            .collect()
    }
}

#[test]
fn a_deny_only_takes_away_and_an_allow_only_adds_whatever_else_there_is() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut allowed, mut refused) = (0, 0);
    for round in 0..4_000 {
        let account = random.of(&[HOME, "222222222222"]);
        let mine = random.statements(Attached::Identity);
        let theirs = random.statements(Attached::Resource);
        let decide = |mine: &[Value], theirs: &[Value]| {
            invoke(&user(account, json!(mine)), Some(json!(theirs)))
        };
        let before = decide(&mine, &theirs);
        allowed += usize::from(before.is_ok());
        refused += usize::from(before.is_err());
        for attached in [Attached::Identity, Attached::Resource] {
            for effect in ["Allow", "Deny"] {
                let (mut more, mut more_theirs) = (mine.clone(), theirs.clone());
                let side = match attached {
                    Attached::Identity => &mut more,
                    Attached::Resource => &mut more_theirs,
                };
                let at = random.below(side.len() as u64 + 1) as usize;
                side.insert(at, random.statement(effect, attached));
                let after = decide(&more, &more_theirs);
                match effect {
                    "Allow" => assert!(after.is_ok() >= before.is_ok(), "round {round}"),
                    _ => assert!(after.is_ok() <= before.is_ok(), "round {round}"),
                }
            }
        }
        // The order of statements decides nothing.
        let (mut turned, mut turned_theirs) = (mine.clone(), theirs.clone());
        turned.reverse();
        turned_theirs.reverse();
        assert_eq!(decide(&turned, &turned_theirs), before, "round {round}");
        // Without any statement nobody may do anything.
        assert!(decide(&[], &[]).is_err());
    }
    assert!(allowed > 300 && refused > 300, "{allowed} {refused}");
}
