//! Groups: making, listing, deleting them, and how long they keep.

use std::collections::BTreeMap;

use lamu_link::{GroupChange, GroupQuery, LogGroup, NewLogGroup};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Ask, LogsError, NAMES_MAX, check, token, with_next};

const CLASSES: [&str; 4] = ["STANDARD", "INFREQUENT_ACCESS", "DELIVERY", "ESSENTIALS"];

const RETENTION_DAYS: [&str; 22] = [
    "1", "3", "5", "7", "14", "30", "60", "90", "120", "150", "180", "365", "400", "545", "731",
    "1096", "1827", "2192", "2557", "2922", "3288", "3653",
];

/// Tags that one request may bring.
const TAGS_MAX: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateLogGroup {
    log_group_name: Option<String>,
    kms_key_id: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    log_group_class: Option<String>,
    deletion_protection_enabled: Option<bool>,
}

pub async fn create(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: CreateLogGroup = ask.read()?;
    let tags = asked.tags.unwrap_or_default();
    check::all(|check| {
        check.group("logGroupName", asked.log_group_name.as_deref());
        check.tags("tags", tags.iter().map(|(key, value)| (key, value.as_str())));
        if let Some(class) = &asked.log_group_class {
            check.one_of("logGroupClass", class, &CLASSES);
        }
    })?;
    let name = asked.log_group_name.unwrap_or_default();
    if name.starts_with("aws/") {
        return Err(LogsError::invalid("Log groups starting with aws/ are reserved for AWS."));
    }
    if tags.len() > TAGS_MAX {
        return Err(LogsError::invalid(format!("At most {TAGS_MAX} tags are allowed.")));
    }
    // There is no key service whose keys it could be.
    if let Some(key) = asked.kms_key_id {
        return Err(LogsError::invalid(format!(
            "The specified KMS Key Id could not be found: {key}"
        )));
    }
    let with = NewLogGroup {
        tags,
        class: asked.log_group_class,
        deletion_protected: asked.deletion_protection_enabled.unwrap_or(false),
    };
    ask.logs.create_group(ask.group(name), with).await?;
    Ok(Value::Null)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeLogGroups {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    log_group_identifiers: Option<Vec<String>>,
    log_group_class: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
}

pub async fn describe(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: DescribeLogGroups = ask.read()?;
    check::all(|check| {
        check.range("limit", asked.limit, 1, NAMES_MAX as i64);
        if let Some(prefix) = &asked.log_group_name_prefix {
            check.group("logGroupNamePrefix", Some(prefix));
        }
        if let Some(part) = &asked.log_group_name_pattern {
            check.group_part("logGroupNamePattern", part);
        }
        if let Some(class) = &asked.log_group_class {
            check.one_of("logGroupClass", class, &CLASSES);
        }
    })?;
    if asked.log_group_name_prefix.is_some() && asked.log_group_name_pattern.is_some() {
        return Err(LogsError::invalid(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
        ));
    }
    if let Some(identifiers) = asked.log_group_identifiers {
        return by_identifiers(ask, identifiers).await;
    }
    let limit = check::count(asked.limit, NAMES_MAX);
    let mut query = GroupQuery {
        account: ask.caller.account.clone(),
        region: ask.caller.region.clone(),
        prefix: asked.log_group_name_prefix.unwrap_or_default(),
        part: asked.log_group_name_pattern.unwrap_or_default(),
        after: asked.next_token.as_deref().map(token::read_name).transpose()?,
        // One more tells whether there is a next page.
        count_max: limit + 1,
    };
    let mut groups: Vec<LogGroup> = Vec::new();
    loop {
        let found = ask.logs.groups(query.clone()).await?;
        let end = found.len() < query.count_max;
        query.after = found.last().map(|group| group.name.clone());
        groups.extend(found.into_iter().filter(|group| {
            asked.log_group_class.as_deref().is_none_or(|wanted| wanted == class(group))
        }));
        if end || groups.len() > limit {
            break;
        }
    }
    let more = groups.len() > limit;
    groups.truncate(limit);
    let next = groups.last().filter(|_| more).map(|last| token::name(&last.name));
    let shown: Vec<Value> = groups.iter().map(|group| shown(ask, group)).collect();
    Ok(with_next(Map::from_iter([("logGroups".to_owned(), shown.into())]), next))
}

async fn by_identifiers(ask: Ask<'_>, identifiers: Vec<String>) -> Result<Value, LogsError> {
    check::all(|check| {
        check.range("logGroupIdentifiers", i64::try_from(identifiers.len()).ok(), 1, 50);
    })?;
    let mut groups = Vec::new();
    for identifier in identifiers {
        let name = ask.identified(identifier)?;
        match ask.logs.group(&name).await {
            Ok(group) => groups.push(shown(ask, &group)),
            Err(lamu_link::LogError::NoGroup) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(json!({"logGroups": groups}))
}

fn class(group: &LogGroup) -> &str {
    group.class.as_deref().unwrap_or("STANDARD")
}

fn shown(ask: Ask<'_>, group: &LogGroup) -> Value {
    let arn = ask.arn(&group.name);
    let mut shown = json!({
        "logGroupName": group.name,
        "creationTime": group.created_ms,
        "metricFilterCount": 0,
        "arn": format!("{arn}:*"),
        "logGroupArn": arn,
        "storedBytes": group.stored_bytes,
        "logGroupClass": class(group),
        "deletionProtectionEnabled": group.deletion_protected,
    });
    if let Some(days) = group.retention_days {
        shown["retentionInDays"] = days.into();
    }
    shown
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfGroup {
    log_group_name: Option<String>,
}

pub async fn delete(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: OfGroup = ask.read()?;
    check::all(|check| check.group("logGroupName", asked.log_group_name.as_deref()))?;
    ask.logs.delete_group(ask.group(asked.log_group_name.unwrap_or_default())).await?;
    Ok(Value::Null)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutRetentionPolicy {
    log_group_name: Option<String>,
    retention_in_days: Option<i64>,
}

pub async fn put_retention(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: PutRetentionPolicy = ask.read()?;
    check::all(|check| {
        check.group("logGroupName", asked.log_group_name.as_deref());
        check.required("retentionInDays", asked.retention_in_days.as_ref());
        if let Some(days) = asked.retention_in_days {
            check.one_of("retentionInDays", &days.to_string(), &RETENTION_DAYS);
        }
    })?;
    let days = asked.retention_in_days.and_then(|days| u32::try_from(days).ok());
    let group = ask.group(asked.log_group_name.unwrap_or_default());
    ask.logs.change_group(group, GroupChange::Retention(days)).await?;
    Ok(Value::Null)
}

pub async fn delete_retention(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: OfGroup = ask.read()?;
    check::all(|check| check.group("logGroupName", asked.log_group_name.as_deref()))?;
    let group = ask.group(asked.log_group_name.unwrap_or_default());
    ask.logs.change_group(group, GroupChange::Retention(None)).await?;
    Ok(Value::Null)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutLogGroupDeletionProtection {
    log_group_identifier: Option<String>,
    deletion_protection_enabled: Option<bool>,
}

pub async fn put_deletion_protection(ask: Ask<'_>) -> Result<Value, LogsError> {
    let asked: PutLogGroupDeletionProtection = ask.read()?;
    check::all(|check| {
        check.required("logGroupIdentifier", asked.log_group_identifier.as_ref());
        check.required("deletionProtectionEnabled", asked.deletion_protection_enabled.as_ref());
    })?;
    let group = ask.identified(asked.log_group_identifier.unwrap_or_default())?;
    let protected = asked.deletion_protection_enabled.unwrap_or(false);
    ask.logs.change_group(group, GroupChange::DeletionProtection(protected)).await?;
    Ok(Value::Null)
}
