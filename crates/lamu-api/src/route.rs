//! Which operation a request is for, and the labels of its path.
//!
//! A path is split before its labels are decoded, once each. An ARN that a
//! client left unencoded is a label too, also where it holds slashes.
//!
//! Not here: reading the rest of the request (`request`).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::operation::{OperationInfo, Segment};
use crate::{ApiError, ErrorCode, Operation};

/// Most labels of any template: layer, version, statement.
const LABELS_MAX: usize = 3;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<'p> {
    pub operation: Operation,
    pub labels: Labels<'p>,
}

/// The labels of a path, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels<'p> {
    operation: Operation,
    values: [Cow<'p, str>; LABELS_MAX],
}

impl Labels<'_> {
    /// The label of this name in the URI template.
    pub fn get(&self, name: &str) -> Option<&str> {
        let labels = self.operation.info().segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Label(label) | Segment::WideLabel(label) => Some(*label),
        });
        labels.zip(&self.values).find(|(label, _)| *label == name).map(|(_, value)| &**value)
    }

    /// The first label: the function's name wherever the path has one.
    pub fn first(&self) -> &str {
        &self.values[0]
    }
}

/// Finds the operation. `query` is without its question mark.
///
/// The route of Invoke is found first and allocates nothing unless its label
/// is percent-encoded.
pub fn route<'p>(method: &str, path: &'p str, query: &str) -> Result<Route<'p>, ApiError> {
    if let Some(label) = invoke_label(method, path) {
        return finish(Operation::Invoke, [label, "", ""]);
    }
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let found = candidates(trimmed, exact).or_else(|| candidates(trimmed, wide));
    let Some(found) = found else {
        let text = format!("No operation of Lambda has the path {path}");
        return Err(ApiError::new(ErrorCode::UnknownOperation, text));
    };
    let mut chosen = None;
    for (operation, labels) in found.iter() {
        let info = operation.info();
        if info.method.as_str() != method {
            continue;
        }
        match info.selector {
            Some(selector) if selects(query, selector) => {
                chosen = Some((*operation, *labels));
                break;
            }
            Some(_) => {}
            None => chosen = Some((*operation, *labels)),
        }
    }
    match chosen {
        Some((operation, labels)) => finish(operation, labels),
        None => Err(other_method(method, path, &found)),
    }
}

/// The function's label when this is the path of Invoke.
fn invoke_label<'p>(method: &str, path: &'p str) -> Option<&'p str> {
    if method != "POST" {
        return None;
    }
    let rest = path.strip_prefix("/2015-03-31/functions/")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let label = rest.strip_suffix("/invocations")?;
    (!label.is_empty() && !label.as_bytes().contains(&b'/')).then_some(label)
}

type Found<'p> = Vec<(Operation, [&'p str; LABELS_MAX])>;
type Matcher = for<'p> fn(&OperationInfo, &'p str) -> Option<[&'p str; LABELS_MAX]>;

/// Every operation whose template fits; of those that fit with a wide label,
/// the most specific ones.
fn candidates<'p>(path: &'p str, matcher: Matcher) -> Option<Found<'p>> {
    let mut found: Found = Vec::new();
    for operation in Operation::ALL {
        if let Some(labels) = matcher(operation.info(), path) {
            found.push((*operation, labels));
        }
    }
    let longest = found.iter().map(|(operation, _)| operation.info().segments.len()).max()?;
    found.retain(|(operation, _)| operation.info().segments.len() == longest);
    Some(found)
}

/// One segment of the path to each of the template.
fn exact<'p>(info: &OperationInfo, path: &'p str) -> Option<[&'p str; LABELS_MAX]> {
    let mut labels = [""; LABELS_MAX];
    let mut count = 0;
    let mut parts = path.strip_prefix('/')?.split('/');
    for segment in info.segments {
        let part = parts.next()?;
        match segment {
            Segment::Literal(text) if *text == part => {}
            Segment::Literal(_) => return None,
            Segment::Label(_) | Segment::WideLabel(_) if part.is_empty() => return None,
            Segment::Label(_) | Segment::WideLabel(_) => {
                labels[count] = part;
                count += 1;
            }
        }
    }
    parts.next().is_none().then_some(labels)
}

/// The template's one wide label takes all segments that its literals leave.
fn wide<'p>(info: &OperationInfo, path: &'p str) -> Option<[&'p str; LABELS_MAX]> {
    let at = info.segments.iter().position(|s| matches!(s, Segment::WideLabel(_)))?;
    let mut rest = path;
    for segment in &info.segments[..at] {
        let Segment::Literal(text) = segment else { return None };
        rest = rest.strip_prefix('/')?.strip_prefix(text)?;
    }
    rest = rest.strip_prefix('/')?;
    for segment in info.segments[at + 1..].iter().rev() {
        let Segment::Literal(text) = segment else { return None };
        rest = rest.strip_suffix(text)?.strip_suffix('/')?;
    }
    // A callback id is base64; the others are ARNs.
    let callback = matches!(info.segments[at], Segment::WideLabel("CallbackId"));
    (callback || rest.starts_with("arn:")).then_some([rest, "", ""])
}

fn selects(query: &str, (key, value): (&str, &str)) -> bool {
    query.split('&').any(|pair| pair.split_once('=') == Some((key, value)))
}

fn finish(operation: Operation, labels: [&str; LABELS_MAX]) -> Result<Route<'_>, ApiError> {
    let mut values = [const { Cow::Borrowed("") }; LABELS_MAX];
    for (value, label) in values.iter_mut().zip(labels) {
        *value = percent_decode_str(label).decode_utf8().map_err(|_| {
            ApiError::new(ErrorCode::Serialization, format!("{label} in the path is not UTF-8"))
        })?;
    }
    Ok(Route { operation, labels: Labels { operation, values } })
}

fn other_method(method: &str, path: &str, found: &Found) -> ApiError {
    let mut methods: Vec<&str> = Vec::new();
    for (operation, _) in found {
        let known = operation.info().method.as_str();
        if !methods.contains(&known) {
            methods.push(known);
        }
    }
    let allow = methods.join(", ");
    let text = format!("{method} is not a method of {path}, which takes {allow}");
    ApiError {
        allow: Some(allow.into_boxed_str()),
        ..ApiError::new(ErrorCode::UnknownOperation, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path an SDK would send, with a value for every label.
    fn filled(operation: Operation) -> (String, String) {
        let (path, query) = operation.uri().split_once('?').unwrap_or((operation.uri(), ""));
        let mut out = String::new();
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap();
            out += before;
            out += &format!("a%3A{name}%2Fb");
            rest = after;
        }
        (out + rest, query.to_owned())
    }

    #[test]
    fn every_operation_routes_to_itself_with_and_without_a_trailing_slash() {
        for operation in Operation::ALL {
            let (path, query) = filled(*operation);
            for path in [path.trim_end_matches('/').to_owned(), format!("{path}/")] {
                let found = route(operation.method().as_str(), &path, &query)
                    .unwrap_or_else(|error| panic!("{operation}: {error}"));
                assert_eq!(found.operation, *operation, "{path}");
                for segment in operation.info().segments {
                    if let Segment::Label(name) | Segment::WideLabel(name) = segment {
                        assert_eq!(found.labels.get(name), Some(&*format!("a:{name}/b")));
                    }
                }
            }
        }
    }

    #[test]
    fn a_known_path_with_another_method_is_405_and_says_which_it_takes() {
        for operation in Operation::ALL {
            let (path, query) = filled(*operation);
            let error = route("PATCH", &path, &query).unwrap_err();
            assert_eq!(error.status(), 405, "{operation}");
            let response = error.respond();
            let allow = response.headers()["allow"].to_str().unwrap();
            assert!(allow.contains(operation.method().as_str()), "{operation}: {allow}");
            assert_eq!(response.headers()["x-amzn-errortype"], "UnknownOperationException");
        }
    }

    #[test]
    fn an_unknown_path_is_an_unknown_operation() {
        for path in [
            "",
            "/",
            "/2015-03-31",
            "/2015-03-31/functions/f/unheard",
            "/2015-03-31/functions//invocations",
            "/2015-03-32/functions/f",
            "2015-03-31/functions",
            "/2015-03-31/functions/a/b/c/d/invocations",
        ] {
            let error = route("POST", path, "").unwrap_err();
            assert_eq!((error.code, error.status().as_u16()), (ErrorCode::UnknownOperation, 404));
        }
    }

    #[test]
    fn the_query_tells_operations_on_one_path_apart() {
        let of = |path, query| route("GET", path, query).unwrap().operation;
        let layers = "/2018-10-31/layers";
        assert_eq!(of(layers, "MaxItems=1"), Operation::ListLayers);
        assert_eq!(of(layers, "Arn=x&find=LayerVersion"), Operation::GetLayerVersionByArn);
        let provisioned = "/2019-09-30/functions/f/provisioned-concurrency";
        assert_eq!(of(provisioned, "Qualifier=1"), Operation::GetProvisionedConcurrencyConfig);
        assert_eq!(of(provisioned, "List=ALL"), Operation::ListProvisionedConcurrencyConfigs);
    }

    #[test]
    fn arns_may_arrive_unencoded() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST";
        let path = format!("/2015-03-31/functions/{arn}/invocations");
        let found = route("POST", &path, "").unwrap();
        assert_eq!((found.operation, found.labels.first()), (Operation::Invoke, arn));

        let execution = format!("{arn}/durable-execution/name/id");
        for (method, tail, operation) in [
            ("GET", "", Operation::GetDurableExecution),
            ("GET", "/history", Operation::GetDurableExecutionHistory),
            ("POST", "/checkpoint", Operation::CheckpointDurableExecution),
        ] {
            let path = format!("/2025-12-01/durable-executions/{execution}{tail}");
            let found = route(method, &path, "").unwrap();
            assert_eq!(found.operation, operation);
            assert_eq!(found.labels.get("DurableExecutionArn"), Some(&*execution));
        }
        let runtime = "arn:aws:lambda:us-east-1:123456789012:runtime/my/version/1";
        let path = format!("/2026-07-09/resource-policy/{runtime}");
        let found = route("PUT", &path, "").unwrap();
        assert_eq!(found.operation, Operation::PutResourcePolicy);
        assert_eq!(found.labels.get("ResourceArn"), Some(runtime));
        let found =
            route("POST", "/2025-12-01/durable-execution-callbacks/ab/c+/fail", "").unwrap();
        assert_eq!(found.labels.get("CallbackId"), Some("ab/c+"));
    }

    #[test]
    fn a_label_is_decoded_once() {
        let found = route("GET", "/2015-03-31/functions/a%253Ab", "").unwrap();
        assert_eq!(found.labels.first(), "a%3Ab");
        let error = route("GET", "/2015-03-31/functions/%FF", "").unwrap_err();
        assert_eq!(error.code, ErrorCode::Serialization);
    }

    #[test]
    fn the_route_of_invoke_borrows_its_label() {
        let found = route("POST", "/2015-03-31/functions/f/invocations", "").unwrap();
        assert!(matches!(found.labels.values[0], Cow::Borrowed("f")));
    }
}
