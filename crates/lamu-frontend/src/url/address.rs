//! How a URL is written, and which requests are for one.
//!
//! ```text
//! host form   http://<id>.lambda-url.<region>.localhost:9001/
//! path form   http://127.0.0.1:9001/lambda-url/<id>/
//! ```
//!
//! Both are always served; the base says which one answers show. No path of
//! Lambda begins like the path form: theirs begin with a date.
//!
//! Not here: whether there is such a URL (the catalog).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::browser::{port_of, without_port};

/// The second label of every host form.
const LABEL: &str = "lambda-url";

/// What every path form begins with.
const PATH: &str = "/lambda-url/";

/// Always served, because every browser and curl take it for this machine.
const LOCAL: &str = "localhost";

/// Scheme, domain and port by which clients reach function URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlBase {
    scheme: Scheme,
    /// Lower case.
    host: String,
    /// As written; the scheme's own when absent.
    port: Option<u16>,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Host,
    Path,
}

/// A request for a URL, which there may or may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    pub id: &'a str,
    /// Of the host form.
    pub region: Option<&'a str>,
    /// What the function sees as its path, with its escapes.
    pub path: &'a str,
    pub form: Form,
    /// What the client sees of the way here.
    pub scheme: Scheme,
    pub port: u16,
}

impl UrlBase {
    /// Reached on this machine, at the listener's own port.
    pub fn local(port: u16) -> UrlBase {
        let host = LOCAL.to_owned();
        UrlBase { scheme: Scheme::Http, host, port: Some(port), form: Form::Host }
    }

    /// The URL as answers show it.
    pub fn address(&self, id: &str, region: &str) -> String {
        let UrlBase { scheme, host, port, form } = self;
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        match form {
            Form::Host => format!("{scheme}://{id}.{LABEL}.{region}.{host}{port}/"),
            Form::Path => format!("{scheme}://{host}{port}{PATH}{id}/"),
        }
    }

    /// The `domainName` that events of a URL carry, whichever way they came.
    pub fn domain_name(&self, id: &str, region: &str) -> String {
        let literal = bare(&self.host).parse::<IpAddr>().is_ok();
        let host = if literal { LOCAL } else { &self.host };
        format!("{id}.{LABEL}.{region}.{host}")
    }

    /// Whether a path form may be asked of this host, beside the process's own
    /// names.
    pub fn is_path_host(&self, host: &str) -> bool {
        self.form == Form::Path && without_port(host).eq_ignore_ascii_case(&self.host)
    }

    /// The URL that a request is for, if it is for any. `listening` is the
    /// listener's port.
    pub fn named<'a>(
        &'a self,
        host: Option<&'a str>,
        path: &'a str,
        listening: u16,
    ) -> Option<Named<'a>> {
        if let Some(found) = host.and_then(|host| self.in_host(host, path, listening)) {
            return Some(found);
        }
        let rest = path.strip_prefix(PATH)?;
        let (id, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let through_base = host.is_some_and(|host| self.is_path_host(host));
        let (scheme, port) = self.way(through_base, host, listening);
        Some(Named { id, region: None, path, form: Form::Path, scheme, port })
    }

    fn in_host<'a>(&'a self, host: &'a str, path: &'a str, listening: u16) -> Option<Named<'a>> {
        let name = without_port(host);
        let name = name.strip_suffix('.').unwrap_or(name);
        let below = |domain: &str| {
            let at = name.len().checked_sub(domain.len())?;
            let (rest, end) = name.split_at_checked(at)?;
            end.eq_ignore_ascii_case(domain).then(|| rest.strip_suffix('.'))?
        };
        let configured = (self.form == Form::Host).then(|| below(&self.host)).flatten();
        let rest = configured.or_else(|| below(LOCAL))?;
        let (id, rest) = rest.split_once('.')?;
        let (label, region) = rest.split_once('.')?;
        if !label.eq_ignore_ascii_case(LABEL) || region.contains('.') {
            return None;
        }
        let (scheme, port) = self.way(configured.is_some(), Some(host), listening);
        let path = if path.is_empty() { "/" } else { path };
        Some(Named { id, region: Some(region), path, form: Form::Host, scheme, port })
    }

    /// The configured base knows about the proxy before us; otherwise the
    /// client speaks to this listener itself.
    fn way(&self, through_base: bool, host: Option<&str>, listening: u16) -> (Scheme, u16) {
        match through_base {
            true => (self.scheme, self.port.unwrap_or(self.scheme.port())),
            false => (Scheme::Http, host.and_then(port_of).unwrap_or(listening)),
        }
    }
}

/// Whether a host name is one that only function URLs have. The API takes
/// pages of such an origin for strangers.
pub fn is_url_host(host: &str) -> bool {
    let label = without_port(host).split('.').nth(1);
    label.is_some_and(|label| label.eq_ignore_ascii_case(LABEL))
}

/// An address in brackets, without them.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for UrlBase {
    type Err = String;

    /// `https://example.com` for host forms below that domain,
    /// `https://example.com/lambda-url` for path forms.
    fn from_str(text: &str) -> Result<UrlBase, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err("not a URL that begins with http:// or https://".into()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let form = match path {
            "" | "/" => Form::Host,
            path if format!("{path}/").starts_with(PATH) && path.len() <= PATH.len() => Form::Path,
            _ => return Err(format!("its path may only be {}", PATH.trim_end_matches('/'))),
        };
        let host = without_port(authority).to_ascii_lowercase();
        let port = match authority[host.len()..].strip_prefix(':') {
            None => None,
            Some(port) => Some(
                port.parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| format!("{port:?} is not a port"))?,
            ),
        };
        let literal = bare(&host).parse::<IpAddr>().is_ok();
        if literal && form == Form::Host {
            return Err(format!(
                "an address has no names below it: name a domain, or end the URL in {}",
                PATH.trim_end_matches('/')
            ));
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let label = |label: &str| !label.is_empty() && label.bytes().all(fits);
        if !literal && !host.split('.').all(label) {
            return Err(format!("{host:?} is not a host name"));
        }
        Ok(UrlBase { scheme, host, port, form })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "abcdefghijklmnopqrstuvwxyz234567";

    fn base(text: &str) -> UrlBase {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_is_shown_as_clients_reach_it() {
        let host = format!("{ID}.lambda-url.us-east-1.");
        let table = [
            (UrlBase::local(9001), format!("http://{host}localhost:9001/")),
            (base("https://Lambda.Example"), format!("https://{host}lambda.example/")),
            (base("https://lambda.example:8443/"), format!("https://{host}lambda.example:8443/")),
            (
                base("http://127.0.0.1:9001/lambda-url"),
                format!("http://127.0.0.1:9001/lambda-url/{ID}/"),
            ),
            (base("http://[::1]:9001/lambda-url/"), format!("http://[::1]:9001/lambda-url/{ID}/")),
        ];
        for (base, shown) in table {
            assert_eq!(base.address(ID, "us-east-1"), shown);
        }
    }

    #[test]
    fn a_base_that_no_client_could_reach_is_refused() {
        for text in [
            "ftp://x",
            "lambda.example",
            "http://",
            "http://a b",
            "http://x:0",
            "http://x:99999",
            "http://x/functions",
            "http://x/lambda-url/more",
            "http://127.0.0.1:9001",
            "http://[::1]",
            "http://a..b",
            "http://user@host",
        ] {
            assert!(text.parse::<UrlBase>().is_err(), "{text}");
        }
    }

    #[test]
    fn both_forms_are_found_in_a_request() {
        let base = UrlBase::local(9001);
        let host = format!("{ID}.lambda-url.us-east-1.localhost:9001");
        let named = base.named(Some(&host), "/a/b%20c", 9001).unwrap();
        assert_eq!((named.id, named.region), (ID, Some("us-east-1")));
        assert_eq!((named.path, named.form), ("/a/b%20c", Form::Host));
        assert_eq!((named.scheme, named.port), (Scheme::Http, 9001));

        let path = format!("/lambda-url/{ID}/a/b%20c");
        let named = base.named(Some("127.0.0.1:9001"), &path, 9001).unwrap();
        assert_eq!((named.id, named.region), (ID, None));
        assert_eq!((named.path, named.form), ("/a/b%20c", Form::Path));
        for path in [format!("/lambda-url/{ID}"), format!("/lambda-url/{ID}/")] {
            assert_eq!(base.named(None, &path, 9001).unwrap().path, "/");
        }
    }

    #[test]
    fn a_url_keeps_paths_that_would_be_another_url_or_the_apis() {
        let base = UrlBase::local(9001);
        let host = format!("{ID}.lambda-url.us-east-1.localhost");
        for path in ["/healthz", "/2015-03-31/functions", "/lambda-url/other/x"] {
            assert_eq!(base.named(Some(&host), path, 9001).unwrap().path, path);
        }
    }

    #[test]
    fn what_is_no_url_is_left_to_the_api() {
        let base = base("https://lambda.example");
        for host in [
            "localhost:9001",
            "127.0.0.1:9001",
            "lambda-url.us-east-1.localhost",
            "x.other.us-east-1.localhost",
            "x.lambda-url.us-east-1.evil.example",
            "x.lambda-url.us-east-1.notlambda.example",
            "x.lambda-url.us-east-1.more.localhost",
            "x.lambda-url.localhost",
            "lambda.example",
            "\u{e9}localhost",
            "",
        ] {
            assert_eq!(base.named(Some(host), "/", 9001), None, "{host}");
        }
        for path in ["/", "/lambda-url", "/lambda-urls/x", "/2021-10-31/functions/f/url"] {
            assert_eq!(base.named(Some("localhost"), path, 9001), None, "{path}");
        }
    }

    #[test]
    fn names_are_names_in_any_case_and_with_the_final_dot() {
        let base = base("https://lambda.example");
        for host in [
            "x.Lambda-URL.us-east-1.LAMBDA.example",
            "x.lambda-url.us-east-1.lambda.example.:443",
            "x.lambda-url.us-east-1.LocalHost:9001",
        ] {
            assert_eq!(base.named(Some(host), "/", 9001).unwrap().id, "x", "{host}");
        }
    }

    #[test]
    fn the_way_is_the_proxys_for_its_names_and_ours_for_localhost() {
        let base = base("https://lambda.example");
        let way = |host: &str| {
            let named = base.named(Some(host), "/lambda-url/x/", 9001).unwrap();
            (named.scheme, named.port)
        };
        assert_eq!(way("x.lambda-url.us-east-1.lambda.example"), (Scheme::Https, 443));
        assert_eq!(way("x.lambda-url.us-east-1.localhost:7000"), (Scheme::Http, 7000));
        assert_eq!(way("127.0.0.1"), (Scheme::Http, 9001));
        let base: UrlBase = "https://lambda.example/lambda-url".parse().unwrap();
        let named = base.named(Some("lambda.example"), "/lambda-url/x/", 9001).unwrap();
        assert_eq!((named.scheme, named.port), (Scheme::Https, 443));
        assert!(base.is_path_host("Lambda.example:443") && !base.is_path_host("other"));
    }

    #[test]
    fn the_domain_of_events_is_a_name_even_where_the_base_is_an_address() {
        let name = format!("{ID}.lambda-url.eu-west-1.");
        let base: UrlBase = "http://10.0.0.5/lambda-url".parse().unwrap();
        assert_eq!(base.domain_name(ID, "eu-west-1"), format!("{name}localhost"));
        let base: UrlBase = "https://lambda.example".parse().unwrap();
        assert_eq!(base.domain_name(ID, "eu-west-1"), format!("{name}lambda.example"));
    }

    #[test]
    fn only_urls_have_hosts_of_urls() {
        assert!(is_url_host("x.lambda-url.us-east-1.localhost:9001"));
        assert!(is_url_host("x.LAMBDA-URL.anything"));
        assert!(!is_url_host("lambda-url.localhost") && !is_url_host("localhost:9001"));
    }
}
