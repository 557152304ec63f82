//! CORS of a function URL: preflights answered without the function, and the
//! headers of every other answer ("Function URLs" of the invocation
//! reference).
//!
//! Where there are rules they decide alone: whatever `Access-Control-*` the
//! function says is replaced. Without rules nothing here runs, and the
//! function sees OPTIONS like any other method.
//!
//! Not here: which rules may be configured (`crate::function::url`).

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN,
    VARY,
};
use http::{HeaderMap, Method, Response};

use crate::function::url::CorsRules;

const ANY: &str = "*";

/// The answer to a preflight, if the request is one. What the rules do not
/// allow is not said, and the browser refuses it.
pub fn preflight(
    rules: &CorsRules,
    method: &Method,
    headers: &HeaderMap,
) -> Option<Response<Bytes>> {
    let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let origin = headers.get(ORIGIN).filter(|_| *method == Method::OPTIONS)?;
    let mut response = Response::new(Bytes::new());
    let answer = response.headers_mut();
    vary(answer);
    let Some(allowed) = allowed_origin(rules, origin) else { return Some(response) };
    let methods = list(&rules.allow_methods);
    if !methods.iter().any(|method| method == ANY || method.as_bytes() == asked.as_bytes()) {
        return Some(response);
    }
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    allow_credentials(rules, answer);
    put(answer, ACCESS_CONTROL_ALLOW_METHODS, &shown(rules, methods, asked));
    if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        let names = list(&rules.allow_headers);
        if !names.is_empty() {
            put(answer, ACCESS_CONTROL_ALLOW_HEADERS, &shown(rules, names, asked));
        }
    }
    if let Some(secs) = rules.max_age_secs {
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(secs));
    }
    Some(response)
}

/// Makes an answer's headers say what the rules say to the page that asks.
pub fn apply(rules: &CorsRules, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
    let said: Vec<HeaderName> = answer
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in said {
        answer.remove(name);
    }
    vary(answer);
    let Some(allowed) = origin.and_then(|origin| allowed_origin(rules, origin)) else { return };
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    allow_credentials(rules, answer);
    let names = list(&rules.expose_headers);
    if !names.is_empty() {
        put(answer, ACCESS_CONTROL_EXPOSE_HEADERS, &names.join(","));
    }
}

/// What `Access-Control-Allow-Origin` says to this origin. With credentials
/// the origin itself, as the service does: a star would mean nothing there.
fn allowed_origin(rules: &CorsRules, origin: &HeaderValue) -> Option<HeaderValue> {
    let origins = list(&rules.allow_origins);
    let same = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
    if origins.iter().any(same) {
        return Some(origin.clone());
    }
    let any = origins.iter().any(|allowed| allowed == ANY);
    any.then(|| match rules.allow_credentials {
        Some(true) => origin.clone(),
        _ => HeaderValue::from_static(ANY),
    })
}

/// A list of the rules, or what was asked where a star would not count.
fn shown(rules: &CorsRules, list: &[String], asked: &HeaderValue) -> String {
    let any = list.iter().any(|item| item == ANY);
    match asked.to_str() {
        Ok(asked) if any && rules.allow_credentials == Some(true) => asked.to_owned(),
        _ => list.join(","),
    }
}

fn allow_credentials(rules: &CorsRules, answer: &mut HeaderMap) {
    if rules.allow_credentials == Some(true) {
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

/// The answer depends on who asks, whatever it is; caches must know.
fn vary(answer: &mut HeaderMap) {
    answer.append(VARY, HeaderValue::from_static("Origin"));
}

fn list(of: &Option<Vec<String>>) -> &[String] {
    of.as_deref().unwrap_or_default()
}

/// What no header can hold was refused when the rules were made.
fn put(answer: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "https://www.example.com";

    fn texts(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    fn rules(origins: &[&str], methods: &[&str]) -> CorsRules {
        CorsRules {
            allow_origins: texts(origins),
            allow_methods: texts(methods),
            allow_headers: texts(&["x-custom", "content-type"]),
            expose_headers: texts(&["date", "x-more"]),
            max_age_secs: Some(300),
            allow_credentials: None,
        }
    }

    fn ask(origin: &str, method: &str, names: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().unwrap());
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, method.parse().unwrap());
        headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, names.parse().unwrap());
        headers
    }

    fn said<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn an_allowed_preflight_hears_the_rules() {
        let rules = rules(&["https://other", PAGE], &["GET", "POST"]);
        let answer = preflight(&rules, &Method::OPTIONS, &ask(PAGE, "POST", "x-custom")).unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.body().is_empty());
        let headers = answer.headers();
        assert_eq!(said(headers, "access-control-allow-origin"), Some(PAGE));
        assert_eq!(said(headers, "access-control-allow-methods"), Some("GET,POST"));
        assert_eq!(said(headers, "access-control-allow-headers"), Some("x-custom,content-type"));
        assert_eq!(said(headers, "access-control-max-age"), Some("300"));
        assert_eq!(said(headers, "access-control-allow-credentials"), None);
        assert_eq!(said(headers, "vary"), Some("Origin"));
    }

    #[test]
    fn what_is_not_allowed_is_not_said() {
        let table = [
            (rules(&["https://other"], &["*"]), "POST"),
            (rules(&[PAGE], &["GET"]), "POST"),
            (rules(&[PAGE], &["POST"]), "post"),
            (rules(&[], &["*"]), "POST"),
            (CorsRules { max_age_secs: Some(1), ..CorsRules::default() }, "POST"),
        ];
        for (rules, method) in table {
            let answer = preflight(&rules, &Method::OPTIONS, &ask(PAGE, method, "x")).unwrap();
            let open = answer.headers().keys().find(|name| name.as_str().starts_with("access"));
            assert_eq!((answer.status().as_u16(), open), (200, None), "{rules:?}");
        }
    }

    #[test]
    fn a_star_is_said_as_it_is_unless_credentials_go_along() {
        let open = rules(&["*"], &["*"]);
        let answer = preflight(&open, &Method::OPTIONS, &ask(PAGE, "PUT", "x")).unwrap();
        assert_eq!(said(answer.headers(), "access-control-allow-origin"), Some("*"));
        assert_eq!(said(answer.headers(), "access-control-allow-methods"), Some("*"));

        let open =
            CorsRules { allow_credentials: Some(true), allow_headers: texts(&["*"]), ..open };
        let answer = preflight(&open, &Method::OPTIONS, &ask(PAGE, "PUT", "x-a, x-b")).unwrap();
        assert_eq!(said(answer.headers(), "access-control-allow-origin"), Some(PAGE));
        assert_eq!(said(answer.headers(), "access-control-allow-methods"), Some("PUT"));
        assert_eq!(said(answer.headers(), "access-control-allow-headers"), Some("x-a, x-b"));
        assert_eq!(said(answer.headers(), "access-control-allow-credentials"), Some("true"));
    }

    #[test]
    fn only_a_preflight_is_answered_without_the_function() {
        let rules = rules(&["*"], &["*"]);
        let asked = ask(PAGE, "GET", "x");
        assert!(preflight(&rules, &Method::GET, &asked).is_none());
        let mut plain = asked.clone();
        plain.remove(ACCESS_CONTROL_REQUEST_METHOD);
        assert!(preflight(&rules, &Method::OPTIONS, &plain).is_none());
        let mut nobody = asked;
        nobody.remove(ORIGIN);
        assert!(preflight(&rules, &Method::OPTIONS, &nobody).is_none());
    }

    #[test]
    fn the_rules_win_over_what_the_function_says() {
        let rules = rules(&[PAGE], &["GET"]);
        let mut answer = HeaderMap::new();
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        answer.insert(VARY, HeaderValue::from_static("Accept"));
        let mut foreign = answer.clone();

        apply(&rules, Some(&HeaderValue::from_static(PAGE)), &mut answer);
        assert_eq!(said(&answer, "access-control-allow-origin"), Some(PAGE));
        assert_eq!(said(&answer, "access-control-allow-credentials"), None);
        assert_eq!(said(&answer, "access-control-expose-headers"), Some("date,x-more"));
        assert_eq!(answer.get_all(VARY).iter().count(), 2);

        apply(&rules, Some(&HeaderValue::from_static("https://evil.example")), &mut foreign);
        assert_eq!(said(&foreign, "access-control-allow-origin"), None);
    }

    #[test]
    fn without_an_origin_no_page_is_told_anything() {
        let mut answer = HeaderMap::new();
        apply(&rules(&["*"], &["*"]), None, &mut answer);
        assert_eq!(answer.keys().collect::<Vec<_>>(), [&VARY]);
    }
}
