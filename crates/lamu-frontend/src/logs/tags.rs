//! Tags of groups, by ARN as tools name them now and by name as they did.

use std::collections::BTreeMap;

use lamu_link::{GroupChange, LogError, LogGroupName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, LogsError, check};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tagging {
    resource_arn: Option<String>,
    log_group_name: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Untagging {
    resource_arn: Option<String>,
    log_group_name: Option<String>,
    tag_keys: Option<Vec<String>>,
    /// The older operation calls the keys so.
    tags: Option<Vec<String>>,
}

pub async fn list(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: Untagging = ask.read()?;
    let group = by_arn(ask, asked.resource_arn)?;
    Ok(json!({"tags": ask.logs.group(&group).await?.tags}))
}

pub async fn tag(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: Tagging = ask.read()?;
    let group = by_arn(ask, asked.resource_arn)?;
    change(ask, group, asked.tags).await
}

pub async fn untag(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: Untagging = ask.read()?;
    check::all(|check| check.required("tagKeys", asked.tag_keys.as_ref()))?;
    let group = by_arn(ask, asked.resource_arn)?;
    let keys = asked.tag_keys.unwrap_or_default();
    ask.logs.change_group(group, GroupChange::Untag(keys)).await?;
    Ok(Value::Null)
}

pub async fn list_of_group(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: Untagging = ask.read()?;
    let group = by_name(ask, asked.log_group_name)?;
    Ok(json!({"tags": ask.logs.group(&group).await?.tags}))
}

pub async fn tag_group(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: Tagging = ask.read()?;
    let group = by_name(ask, asked.log_group_name)?;
    change(ask, group, asked.tags).await
}

pub async fn untag_group(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: Untagging = ask.read()?;
    check::all(|check| check.required("tags", asked.tags.as_ref()))?;
    let group = by_name(ask, asked.log_group_name)?;
    let keys = asked.tags.unwrap_or_default();
    ask.logs.change_group(group, GroupChange::Untag(keys)).await?;
    Ok(Value::Null)
}

fn by_name(ask: Ask<'_>, name: Option<String>) -> Result<LogGroupName, LogsError> {
    check::all(|check| check.group("logGroupName", name.as_deref()))?;
    Ok(ask.group(name.unwrap_or_default()))
}

fn by_arn(ask: Ask<'_>, arn: Option<String>) -> Result<LogGroupName, LogsError> {
    check::all(|check| {
        check.required("resourceArn", arn.as_ref());
        if let Some(arn) = &arn {
            check.identifier("resourceArn", arn);
        }
    })?;
    ask.of_arn(&arn.unwrap_or_default()).ok_or_else(|| LogError::NoGroup.into())
}

async fn change(
    ask: Ask<'_>,
    group: LogGroupName,
    tags: Option<BTreeMap<String, String>>,
) -> Result<Value, LogsError> {
    check::all(|check| {
        check.required("tags", tags.as_ref());
        let pairs = tags.iter().flatten().map(|(key, value)| (key, value.as_str()));
        check.tags("tags", pairs);
    })?;
    let tags = tags.unwrap_or_default();
    if let Some(key) = tags.keys().find(|key| key.starts_with("aws:")) {
        return Err(LogsError::invalid(format!(
            "Tag key '{key}' begins with aws:, which is reserved."
        )));
    }
    ask.logs.change_group(group, GroupChange::Tag(tags)).await?;
    Ok(Value::Null)
}
