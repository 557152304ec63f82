//! A policy in IAM's JSON, read into what can be evaluated.
//!
//! Everything that is wrong is told at once, each with its statement.
//!
//! Not here: what a policy decides (`evaluate`).

use std::fmt;

use serde_json::{Map, Value};

use super::condition::Condition;
use super::context;
use super::pattern::{ArnPattern, Case, Pattern, Resolve, Variables, Wildcards};
use super::principal::{Kind, Principal};

/// What a policy is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// To a user or role: it is who asks.
    Identity,
    /// To a function or layer: each statement says for whom it is.
    Resource,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub statements: Vec<Statement>,
    full: bool,
    deny: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub sid: Option<String>,
    pub effect: Effect,
    /// None in a policy of an identity.
    principals: Option<Principals>,
    actions: Matcher<Pattern>,
    resources: Matcher<ArnPattern>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// How a statement names a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// By itself, or as anyone.
    Itself,
    /// By its account, which leaves it to that account's own policies.
    Account,
}

/// `Action` or `NotAction`, `Resource` or `NotResource`.
#[derive(Clone, Debug, PartialEq)]
struct Matcher<T> {
    not: bool,
    patterns: Vec<T>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Principals {
    /// `NotPrincipal`
    not: bool,
    anyone: bool,
    accounts: Vec<String>,
    arns: Vec<String>,
    services: Vec<String>,
}

/// Everything wrong with one policy, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors(pub Vec<String>);

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for PolicyErrors {}

impl Policy {
    pub fn parse(text: &str, attached: Attached) -> Result<Policy, PolicyErrors> {
        match serde_json::from_str::<Value>(text) {
            Ok(value) => Policy::of(&value, attached),
            Err(error) => Err(PolicyErrors(vec![format!("not JSON: {error}")])),
        }
    }

    pub fn of(value: &Value, attached: Attached) -> Result<Policy, PolicyErrors> {
        let mut errors = Vec::new();
        let Some(document) = value.as_object() else {
            return Err(PolicyErrors(vec!["a policy is a JSON object".to_owned()]));
        };
        for name in document.keys() {
            if !["Version", "Id", "Statement"].contains(&name.as_str()) {
                errors.push(format!("a policy has no {name}"));
            }
        }
        let variables = match document.get("Version").map(Value::as_str) {
            Some(Some("2012-10-17")) => Variables::Replaced,
            // The old language, which is also what a missing version means.
            None | Some(Some("2008-10-17")) => Variables::Literal,
            _ => {
                errors.push("Version must be \"2012-10-17\" or \"2008-10-17\"".to_owned());
                Variables::Replaced
            }
        };
        let given: &[Value] = match document.get("Statement") {
            Some(Value::Array(statements)) => statements,
            Some(one @ Value::Object(_)) => std::slice::from_ref(one),
            _ => {
                errors.push("Statement must be an object or a list of objects".to_owned());
                &[]
            }
        };
        let mut statements: Vec<Statement> = Vec::with_capacity(given.len());
        for (at, value) in given.iter().enumerate() {
            let mut reader = Reader { attached, variables, errors: Vec::new() };
            let statement = reader.statement(value);
            let twice = statement.as_ref().and_then(|statement| statement.sid.as_deref());
            let twice = twice
                .filter(|sid| statements.iter().any(|other| other.sid.as_deref() == Some(*sid)));
            if let Some(sid) = twice {
                reader.errors.push(format!("Sid {sid:?} is there twice"));
            }
            let place = |error| format!("statement {}: {error}", at + 1);
            errors.extend(reader.errors.into_iter().map(place));
            statements.extend(statement);
        }
        if !errors.is_empty() {
            return Err(PolicyErrors(errors));
        }
        let deny = statements.iter().any(|statement| statement.effect == Effect::Deny);
        let full = statements.iter().any(Statement::is_full);
        Ok(Policy { statements, full, deny })
    }

    /// Denies everything to everyone.
    pub fn nothing() -> Policy {
        let everything = Statement {
            sid: None,
            effect: Effect::Deny,
            principals: Some(Principals { anyone: true, ..Principals::default() }),
            actions: Matcher { not: true, patterns: Vec::new() },
            resources: Matcher { not: true, patterns: Vec::new() },
            conditions: Vec::new(),
        };
        Policy { statements: vec![everything], full: false, deny: true }
    }

    /// Whether one of its statements allows everything, whatever it is.
    pub fn is_full(&self) -> bool {
        self.full
    }

    pub fn has_deny(&self) -> bool {
        self.deny
    }

    /// Whether it allows something to people its owner cannot tell.
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| {
            let principals = statement.principals.as_ref();
            statement.effect == Effect::Allow
                && principals.is_some_and(|principals| principals.anyone != principals.not)
                && !statement.conditions.iter().any(Condition::narrows)
        })
    }
}

impl Statement {
    /// Whether action and resource are what it speaks of. `action` is as
    /// `lambda:GetFunction`; `resource` is an ARN or `*`.
    pub fn covers(&self, action: &str, resource: &str, resolve: Resolve<'_>) -> bool {
        let actions = &self.actions.patterns;
        let acts = actions.iter().any(|pattern| pattern.matches(action, Case::Ignored, resolve));
        acts != self.actions.not && {
            let patterns = &self.resources.patterns;
            let named = patterns.iter().any(|pattern| pattern.matches(resource, resolve));
            named != self.resources.not
        }
    }

    /// How it names the principal, if it does.
    pub fn names(&self, principal: &Principal) -> Option<Named> {
        match &self.principals {
            // The policy is the principal's own.
            None => Some(Named::Itself),
            Some(principals) => principals.name(principal),
        }
    }

    pub fn is_fulfilled(&self, context: &context::Context<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(context))
    }

    fn is_full(&self) -> bool {
        self.effect == Effect::Allow
            && self.principals.is_none()
            && self.conditions.is_empty()
            && !self.actions.not
            && self.actions.patterns.iter().any(Pattern::is_any)
            && !self.resources.not
            && self.resources.patterns.iter().any(ArnPattern::is_any)
    }
}

impl Principals {
    fn name(&self, principal: &Principal) -> Option<Named> {
        let named = self.names(principal);
        match (self.not, named) {
            (false, named) => named,
            (true, None) => Some(Named::Itself),
            (true, Some(_)) => None,
        }
    }

    fn names(&self, principal: &Principal) -> Option<Named> {
        if self.anyone {
            return Some(Named::Itself);
        }
        if principal.kind == Kind::Service {
            let named = self.services.contains(&principal.arn);
            return named.then_some(Named::Itself);
        }
        let policy_arn = principal.policy_arn();
        let is = |arn: &String| *arn == principal.arn || Some(arn.as_str()) == policy_arn;
        if self.arns.iter().any(is) {
            return Some(Named::Itself);
        }
        let account = principal.account.as_ref()?;
        let of_account = self.accounts.iter().any(|known| known == account.as_str());
        of_account.then_some(match principal.kind {
            // The root of an account is the account.
            Kind::Root => Named::Itself,
            _ => Named::Account,
        })
    }
}

/// Reads one statement.
struct Reader {
    attached: Attached,
    variables: Variables,
    errors: Vec<String>,
}

impl Reader {
    fn statement(&mut self, value: &Value) -> Option<Statement> {
        let Some(members) = value.as_object() else {
            self.errors.push("must be an object".to_owned());
            return None;
        };
        const MEMBERS: [&str; 9] = [
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ];
        for name in members.keys().filter(|name| !MEMBERS.contains(&name.as_str())) {
            self.errors.push(format!("a statement has no {name}"));
        }
        let sid = match members.get("Sid") {
            None => None,
            Some(Value::String(sid)) => Some(sid.clone()).filter(|sid| !sid.is_empty()),
            Some(_) => {
                self.errors.push("Sid must be text".to_owned());
                None
            }
        };
        let effect = match members.get("Effect").map(Value::as_str) {
            Some(Some("Allow")) => Effect::Allow,
            Some(Some("Deny")) => Effect::Deny,
            _ => {
                self.errors.push("Effect must be \"Allow\" or \"Deny\"".to_owned());
                Effect::Deny
            }
        };
        let principals = self.principals(members);
        let actions = self.actions(members);
        let resources = self.resources(members);
        let conditions = self.conditions(members.get("Condition"));
        Some(Statement { sid, effect, principals, actions, resources, conditions })
    }

    fn actions(&mut self, members: &Map<String, Value>) -> Matcher<Pattern> {
        let (not, texts) = self.one_of(members, "Action", "NotAction");
        let mut patterns = Vec::with_capacity(texts.len());
        for text in texts {
            let formed = text == "*"
                || text.split_once(':').is_some_and(|(service, name)| {
                    !service.is_empty() && !name.is_empty() && !name.contains(':')
                });
            if !formed {
                self.errors.push(format!("action {text:?} must look like lambda:GetFunction"));
                continue;
            }
            match Pattern::parse(&text, Wildcards::Matched, Variables::Literal) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.errors.push(error),
            }
        }
        Matcher { not, patterns }
    }

    fn resources(&mut self, members: &Map<String, Value>) -> Matcher<ArnPattern> {
        let (not, texts) = self.one_of(members, "Resource", "NotResource");
        let mut patterns = Vec::with_capacity(texts.len());
        for text in texts {
            match ArnPattern::parse(&text, self.variables) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.errors.push(format!("resource {error}")),
            }
        }
        Matcher { not, patterns }
    }

    fn principals(&mut self, members: &Map<String, Value>) -> Option<Principals> {
        let given = members.get("Principal").map(|value| (false, value));
        let given = given.or_else(|| members.get("NotPrincipal").map(|value| (true, value)));
        if members.contains_key("Principal") && members.contains_key("NotPrincipal") {
            self.errors.push("has both Principal and NotPrincipal".to_owned());
        }
        let (not, value) = match (self.attached, given) {
            (Attached::Identity, None) => return None,
            (Attached::Identity, Some(_)) => {
                self.errors.push("a policy of an identity names no principal".to_owned());
                return None;
            }
            (Attached::Resource, None) => {
                self.errors.push("needs a Principal".to_owned());
                return None;
            }
            (Attached::Resource, Some(given)) => given,
        };
        let mut principals = Principals { not, ..Principals::default() };
        match value {
            Value::String(text) if text == "*" => principals.anyone = true,
            Value::Object(kinds) if !kinds.is_empty() => {
                for (kind, value) in kinds {
                    for text in self.texts("Principal", value) {
                        self.principal(&mut principals, kind, text);
                    }
                }
            }
            _ => self.errors.push(
                "Principal must be \"*\" or an object such as {\"AWS\": \"123456789012\"}"
                    .to_owned(),
            ),
        }
        Some(principals)
    }

    fn principal(&mut self, into: &mut Principals, kind: &str, text: String) {
        match kind {
            "AWS" if text == "*" => into.anyone = true,
            "AWS" => match principal_arn(&text) {
                Some(PrincipalName::Account(account)) => into.accounts.push(account),
                Some(PrincipalName::Arn) => into.arns.push(text),
                None => {
                    self.errors.push(format!("principal {text:?} is no account and no ARN of IAM"))
                }
            },
            "Service" => match is_service(&text) {
                true => into.services.push(text),
                false => self.errors.push(format!("principal {text:?} is no service")),
            },
            _ => self.errors.push(format!("a principal is AWS or Service, not {kind}")),
        }
    }

    fn conditions(&mut self, value: Option<&Value>) -> Vec<Condition> {
        let mut conditions = Vec::new();
        let Some(value) = value else { return conditions };
        let Some(operators) = value.as_object() else {
            self.errors.push("Condition must be an object".to_owned());
            return conditions;
        };
        for (operator, keys) in operators {
            let Some(keys) = keys.as_object() else {
                self.errors.push(format!("{operator} must be an object of keys and values"));
                continue;
            };
            for (key, values) in keys {
                let values = self.texts(key, values);
                match Condition::parse(operator, key, &values, self.variables) {
                    Ok(condition) => {
                        // What other people attach to a function may know more
                        // keys than lamu; one's own settings are checked.
                        let checked = self.attached == Attached::Identity;
                        if checked && !context::is_known(condition.key()) {
                            self.errors.push(format!("{key} is no key of a condition"));
                        }
                        conditions.push(condition);
                    }
                    Err(error) => self.errors.push(error),
                }
            }
        }
        conditions
    }

    fn one_of(
        &mut self,
        members: &Map<String, Value>,
        name: &str,
        not_name: &str,
    ) -> (bool, Vec<String>) {
        let (not, value) = match (members.get(name), members.get(not_name)) {
            (Some(value), None) => (false, value),
            (None, Some(value)) => (true, value),
            (None, None) => {
                self.errors.push(format!("needs {name} or {not_name}"));
                return (false, Vec::new());
            }
            (Some(_), Some(_)) => {
                self.errors.push(format!("has both {name} and {not_name}"));
                return (false, Vec::new());
            }
        };
        let texts = self.texts(name, value);
        if texts.is_empty() {
            self.errors.push(format!("{name} is empty"));
        }
        (not, texts)
    }

    /// One text or a list of them; numbers and flags are texts too.
    fn texts(&mut self, name: &str, value: &Value) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
            _ => None,
        };
        let read: Option<Vec<String>> = match value {
            Value::Array(values) => values.iter().map(text).collect(),
            one => text(one).map(|text| vec![text]),
        };
        read.unwrap_or_else(|| {
            self.errors.push(format!("{name} must be text or a list of texts"));
            Vec::new()
        })
    }
}

/// How an `AWS` principal is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalName {
    /// By twelve digits or the ARN of its root.
    Account(String),
    /// A user, a role or a session.
    Arn,
}

pub fn principal_arn(text: &str) -> Option<PrincipalName> {
    let digits = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    if digits(text) {
        return Some(PrincipalName::Account(text.to_owned()));
    }
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, service, "", account, resource] = parts.as_slice() else { return None };
    if *arn != "arn" || !partition.starts_with("aws") || !digits(account) {
        return None;
    }
    if *service == "iam" && *resource == "root" {
        return Some(PrincipalName::Account((*account).to_owned()));
    }
    let (kind, name) = resource.split_once('/')?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/".contains(c);
    let known = match *service {
        "iam" => matches!(kind, "user" | "role"),
        "sts" => matches!(kind, "assumed-role" | "federated-user"),
        _ => false,
    };
    let named = !name.is_empty() && !name.ends_with('/') && name.chars().all(fits);
    (known && named).then_some(PrincipalName::Arn)
}

/// Such as `s3.amazonaws.com`.
pub fn is_service(text: &str) -> bool {
    let domains = [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com", ".amazonaws.eu"];
    let name = domains.iter().find_map(|domain| text.strip_suffix(domain));
    name.is_some_and(|name| {
        name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
    })
}

#[cfg(test)]
mod tests;
