//! The policy of a function, a version, an alias or a layer version: the
//! document people see, built statement by statement, and beside it the same
//! ready to be evaluated.
//!
//! Not here: what it decides (`crate::policy`), where it is kept (`document`),
//! what an operation answers (`operations`).

use lamu_model::Arn;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::policy::document::{PrincipalName, is_service, principal_arn};
use crate::policy::{Attached, Policy, PolicyErrors};

/// Of the whole document.
pub const POLICY_BYTES_MAX: usize = 20_480;

/// Stored as its text. A text that cannot be read any more denies everything,
/// so that no refusal is forgotten, and stays as it is: what it is attached to
/// is there all the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ResourcePolicy {
    document: Document,
    policy: Policy,
    unread: Option<String>,
}

/// The members in the order in which the service shows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    #[serde(default = "old_version")]
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(deserialize_with = "one_or_many")]
    statement: Vec<Statement>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Statement {
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    effect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_principal: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_action: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_resource: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Value>,
}

/// Why a policy cannot become what is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyRefusal {
    SidExists(String),
    SidMissing(String),
    TooLong { bytes: usize },
    PrincipalInvalid,
    Malformed(PolicyErrors),
}

impl ResourcePolicy {
    /// A whole document, as people write it.
    pub fn parse(text: &str) -> Result<ResourcePolicy, PolicyRefusal> {
        // The checks first: they name what is wrong better than serde does.
        let policy = Policy::parse(text, Attached::Resource).map_err(PolicyRefusal::Malformed)?;
        let document: Document = serde_json::from_str(text)
            .map_err(|error| PolicyRefusal::Malformed(PolicyErrors(vec![error.to_string()])))?;
        if document.statement.is_empty() {
            let empty = PolicyErrors(vec!["a policy needs a statement".to_owned()]);
            return Err(PolicyRefusal::Malformed(empty));
        }
        let policy = ResourcePolicy { document, policy, unread: None };
        match policy.text().len() {
            bytes if bytes > POLICY_BYTES_MAX => Err(PolicyRefusal::TooLong { bytes }),
            _ => Ok(policy),
        }
    }

    /// What there is with one statement more.
    pub fn with(
        current: Option<&ResourcePolicy>,
        statement: Statement,
    ) -> Result<ResourcePolicy, PolicyRefusal> {
        let mut document = match current {
            Some(current) => current.document()?.clone(),
            None => Document {
                version: "2012-10-17".to_owned(),
                id: Some("default".to_owned()),
                statement: Vec::new(),
            },
        };
        if document.statement.iter().any(|known| known.sid == statement.sid) {
            return Err(PolicyRefusal::SidExists(statement.sid.unwrap_or_default()));
        }
        document.statement.push(statement);
        ResourcePolicy::parse(&text_of(&document))
    }

    /// What there is without one statement; nothing without the last.
    pub fn without(&self, sid: &str) -> Result<Option<ResourcePolicy>, PolicyRefusal> {
        let mut document = self.document()?.clone();
        document.statement.retain(|statement| statement.sid.as_deref() != Some(sid));
        if document.statement.len() == self.document.statement.len() {
            return Err(PolicyRefusal::SidMissing(sid.to_owned()));
        }
        if document.statement.is_empty() {
            return Ok(None);
        }
        ResourcePolicy::parse(&text_of(&document)).map(Some)
    }

    pub fn text(&self) -> String {
        self.unread.clone().unwrap_or_else(|| text_of(&self.document))
    }

    /// What can be changed.
    fn document(&self) -> Result<&Document, PolicyRefusal> {
        match &self.unread {
            None => Ok(&self.document),
            Some(_) => Err(PolicyRefusal::Malformed(PolicyErrors(vec![
                "what is stored cannot be read any more, and denies everything".to_owned(),
            ]))),
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Resources of its statements that are not `arn` itself. A policy speaks
    /// of what it is attached to.
    pub fn foreign_resource(&self, arn: &str) -> Option<String> {
        let resources = self.document.statement.iter().filter_map(|statement| {
            statement.resource.as_ref().or(statement.not_resource.as_ref())
        });
        let mut texts = resources.flat_map(|resource| match resource {
            Value::Array(texts) => texts.iter().collect::<Vec<&Value>>(),
            one => vec![one],
        });
        texts.find(|text| text.as_str() != Some(arn)).map(|text| match text {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

impl From<String> for ResourcePolicy {
    fn from(text: String) -> ResourcePolicy {
        ResourcePolicy::parse(&text).unwrap_or_else(|refusal| {
            tracing::error!(?refusal, "a stored policy cannot be read; it denies everything");
            let document = Document { version: old_version(), id: None, statement: Vec::new() };
            ResourcePolicy { document, policy: Policy::nothing(), unread: Some(text) }
        })
    }
}

impl From<ResourcePolicy> for String {
    fn from(policy: ResourcePolicy) -> String {
        policy.text()
    }
}

/// One statement as `AddPermission` and its relatives describe it.
#[derive(Clone, Debug, Default)]
pub struct Grant<'a> {
    pub sid: &'a str,
    pub action: &'a str,
    pub principal: &'a str,
    pub source_arn: Option<&'a str>,
    pub source_account: Option<&'a str>,
    pub event_source_token: Option<&'a str>,
    pub organization: Option<&'a str>,
    pub url_auth_type: Option<&'a str>,
    pub via_url: Option<bool>,
}

impl Grant<'_> {
    pub fn statement(&self, resource: &Arn) -> Result<Statement, PolicyRefusal> {
        Ok(Statement {
            sid: Some(self.sid.to_owned()),
            effect: "Allow".to_owned(),
            principal: Some(principal(self.principal)?),
            action: Some(self.action.into()),
            resource: Some(resource.as_str().into()),
            condition: self.condition(),
            ..Statement::default()
        })
    }

    fn condition(&self) -> Option<Value> {
        let mut equal = Map::new();
        let equals = [
            ("AWS:SourceAccount", self.source_account),
            ("lambda:EventSourceToken", self.event_source_token),
            ("aws:PrincipalOrgID", self.organization),
            ("lambda:FunctionUrlAuthType", self.url_auth_type),
        ];
        for (key, value) in equals {
            if let Some(value) = value {
                equal.insert(key.to_owned(), value.into());
            }
        }
        let mut condition = Map::new();
        if !equal.is_empty() {
            condition.insert("StringEquals".to_owned(), Value::Object(equal));
        }
        if let Some(arn) = self.source_arn {
            condition.insert("ArnLike".to_owned(), json!({"AWS:SourceArn": arn}));
        }
        if let Some(via_url) = self.via_url {
            let text = via_url.to_string();
            condition.insert("Bool".to_owned(), json!({"lambda:InvokedViaFunctionUrl": text}));
        }
        (!condition.is_empty()).then_some(Value::Object(condition))
    }
}

impl Statement {
    pub fn text(&self) -> String {
        text_of(self)
    }
}

/// How the service writes a principal that a caller named.
fn principal(text: &str) -> Result<Value, PolicyRefusal> {
    if text == "*" {
        return Ok("*".into());
    }
    if is_service(text) {
        return Ok(json!({ "Service": text }));
    }
    match principal_arn(text) {
        Some(PrincipalName::Account(account)) if !text.starts_with("arn:") => {
            Ok(json!({"AWS": format!("arn:aws:iam::{account}:root")}))
        }
        Some(_) => Ok(json!({ "AWS": text })),
        None => Err(PolicyRefusal::PrincipalInvalid),
    }
}

/// Maps with text for keys, and values that came from JSON.
fn text_of<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn old_version() -> String {
    "2008-10-17".to_owned()
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Statement>, D::Error> {
    use serde::de::Error as _;
    let statements = match Value::deserialize(deserializer)? {
        Value::Array(statements) => statements,
        one => vec![one],
    };
    statements
        .into_iter()
        .map(|statement| serde_json::from_value(statement).map_err(D::Error::custom))
        .collect()
}

#[cfg(test)]
mod tests {
    use lamu_model::AccountId;

    use super::*;
    use crate::policy::{Context, Owner, Principal, Question, Refused, evaluate};

    fn arn() -> Arn {
        Arn::new("arn:aws:lambda:us-east-1:000000000000:function:f")
    }

    fn grant(sid: &str) -> Grant<'_> {
        Grant {
            sid,
            action: "lambda:InvokeFunction",
            principal: "s3.amazonaws.com",
            ..Grant::default()
        }
    }

    fn policy(sids: &[&str]) -> ResourcePolicy {
        let mut policy = None;
        for sid in sids {
            let statement = grant(sid).statement(&arn()).unwrap();
            policy = Some(ResourcePolicy::with(policy.as_ref(), statement).unwrap());
        }
        policy.unwrap()
    }

    #[test]
    fn a_statement_reads_as_the_service_writes_it() {
        let plain = grant("s1").statement(&arn()).unwrap();
        assert_eq!(
            plain.text(),
            r#"{"Sid":"s1","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:us-east-1:000000000000:function:f"}"#
        );
        let all = Grant {
            principal: "*",
            source_arn: Some("arn:aws:s3:::b"),
            source_account: Some("111122223333"),
            event_source_token: Some("token"),
            organization: Some("o-abcdefghij"),
            url_auth_type: Some("NONE"),
            via_url: Some(true),
            ..grant("s2")
        };
        let condition = all.statement(&arn()).unwrap().condition.unwrap();
        assert_eq!(
            condition,
            json!({
                "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"},
                "Bool": {"lambda:InvokedViaFunctionUrl": "true"},
                "StringEquals": {
                    "AWS:SourceAccount": "111122223333",
                    "aws:PrincipalOrgID": "o-abcdefghij",
                    "lambda:EventSourceToken": "token",
                    "lambda:FunctionUrlAuthType": "NONE",
                },
            })
        );
        assert_eq!(
            policy(&["s1"]).text(),
            format!(r#"{{"Version":"2012-10-17","Id":"default","Statement":[{}]}}"#, plain.text())
        );
    }

    #[test]
    fn a_principal_is_an_account_an_arn_of_iam_a_service_or_anyone() {
        let table = [
            ("*", Some(json!("*"))),
            ("111122223333", Some(json!({"AWS": "arn:aws:iam::111122223333:root"}))),
            (
                "arn:aws:iam::111122223333:role/r",
                Some(json!({"AWS": "arn:aws:iam::111122223333:role/r"})),
            ),
            (
                "arn:aws:iam::111122223333:root",
                Some(json!({"AWS": "arn:aws:iam::111122223333:root"})),
            ),
            ("apigateway.amazonaws.com", Some(json!({"Service": "apigateway.amazonaws.com"}))),
            ("alexa-appkit.amazon.com", Some(json!({"Service": "alexa-appkit.amazon.com"}))),
            ("11112222333", None),
            ("apigateway", None),
            (".amazonaws.com", None),
            ("arn:aws:s3:::bucket", None),
            ("arn:aws:iam::111122223333:user", None),
            ("arn:aws:iam:us-east-1:111122223333:user/u", None),
        ];
        for (text, expected) in table {
            assert_eq!(principal(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn statements_come_and_go_by_their_ids() {
        let two = policy(&["a", "b"]);
        let again = ResourcePolicy::with(Some(&two), grant("b").statement(&arn()).unwrap());
        assert_eq!(again, Err(PolicyRefusal::SidExists("b".into())));
        assert_eq!(two.without("c"), Err(PolicyRefusal::SidMissing("c".into())));
        let one = two.without("a").unwrap().unwrap();
        assert_eq!(one, policy(&["b"]));
        assert_eq!(one.without("b"), Ok(None));
    }

    #[test]
    fn the_whole_document_has_a_longest_length() {
        let mut current = None;
        let refused = loop {
            let count = current
                .as_ref()
                .map_or(0, |policy: &ResourcePolicy| policy.document.statement.len());
            assert!(count < 1_000, "it has no end");
            let sid = format!("statement-{count}");
            let statement = grant(&sid).statement(&arn()).unwrap();
            match ResourcePolicy::with(current.as_ref(), statement) {
                Ok(policy) => current = Some(policy),
                Err(refused) => break refused,
            }
        };
        let PolicyRefusal::TooLong { bytes } = refused else { panic!("{refused:?}") };
        assert!(bytes > POLICY_BYTES_MAX);
        assert!(current.is_some_and(|policy| policy.text().len() <= POLICY_BYTES_MAX));
    }

    #[test]
    fn a_policy_survives_being_stored_whoever_wrote_it() {
        let built = policy(&["a", "b"]);
        let stored = serde_json::to_string(&built).unwrap();
        assert_eq!(serde_json::from_str::<ResourcePolicy>(&stored).unwrap(), built);

        let text = r#"{"Statement": {"Effect": "Deny", "NotPrincipal": {"AWS": "111122223333"},
            "NotAction": "lambda:Get*", "NotResource": ["arn:aws:lambda:*:*:function:g"]}}"#;
        let written = ResourcePolicy::parse(text).unwrap();
        assert_eq!(
            written.text(),
            r#"{"Version":"2008-10-17","Statement":[{"Effect":"Deny","NotPrincipal":{"AWS":"111122223333"},"NotAction":"lambda:Get*","NotResource":["arn:aws:lambda:*:*:function:g"]}]}"#
        );
        let stored = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<ResourcePolicy>(&stored).unwrap(), written);
    }

    #[test]
    fn a_stored_policy_that_cannot_be_read_any_more_denies_everything_and_is_kept() {
        let unknown = r#"{"Statement": {"Effect": "Maybe", "Principal": "*"}}"#;
        for text in [unknown, "{}", "no JSON", ""] {
            let stored = serde_json::to_string(text).unwrap();
            let policy: ResourcePolicy = serde_json::from_str(&stored).unwrap();
            assert_eq!(serde_json::to_string(&policy).unwrap(), stored);
            assert_eq!(policy.text(), text);
            let root = Principal::root(AccountId::new("111111111111"));
            let on = arn();
            let question = Question {
                action: "lambda:InvokeFunction",
                resource: on.as_str(),
                owner: Owner::Same,
            };
            let context = Context::new(&root, chrono::Utc::now());
            let decided = evaluate(&question, &context, Some(policy.policy()));
            assert_eq!(decided, Err(Refused::DenyOfResource));
            assert!(policy.policy().has_deny());
            let statement = grant("s").statement(&arn()).unwrap();
            assert!(ResourcePolicy::with(Some(&policy), statement).is_err());
            assert!(policy.without("s").is_err());
        }
    }

    #[test]
    fn a_policy_speaks_of_what_it_is_attached_to() {
        let own = policy(&["a"]);
        assert_eq!(own.foreign_resource(arn().as_str()), None);
        let other = "arn:aws:lambda:us-east-1:000000000000:function:g";
        assert_eq!(own.foreign_resource(other), Some(arn().to_string()));
    }
}
