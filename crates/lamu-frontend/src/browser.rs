//! What a web page in somebody's browser could send to a lamu that asks for no
//! signature: refused, because the page is not the user.
//!
//! A page can reach a loopback port in two ways: as another origin (browsers
//! then say so in `Origin` or `Sec-Fetch-Site`), or by a host name of its own
//! that suddenly means 127.0.0.1 (then `Host` is a stranger's). SDKs send
//! neither.

use std::net::{IpAddr, SocketAddr};

use crate::url::address::is_url_host;

/// The names this process answers to.
#[derive(Clone, Debug)]
pub struct OwnNames {
    listen: SocketAddr,
    names: Vec<String>,
}

/// The headers that tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs<'a> {
    /// `Host`, or the authority of HTTP/2.
    pub host: Option<&'a str>,
    pub origin: Option<&'a str>,
    pub sec_fetch_site: Option<&'a str>,
}

/// Why the request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    #[error(
        "The Host header names a host that is not this one. Add the name to the configuration if it should be."
    )]
    Host,
    #[error("Requests of web pages from other origins are not accepted without a signature.")]
    Origin,
}

impl OwnNames {
    pub fn new(listen: SocketAddr, names: &[String]) -> OwnNames {
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        OwnNames { listen, names }
    }

    /// Whether the request can come from the user's own programs.
    pub fn check(&self, signs: &Signs<'_>) -> Result<(), Foreign> {
        // HTTP/1.0 has no Host; no browser speaks it.
        if signs.host.is_some_and(|host| !self.is_own(host)) {
            return Err(Foreign::Host);
        }
        if signs.sec_fetch_site.is_some_and(|site| site != "same-origin" && site != "none") {
            return Err(Foreign::Origin);
        }
        match signs.origin {
            Some(origin) if !self.is_own_origin(origin) => Err(Foreign::Origin),
            _ => Ok(()),
        }
    }

    fn is_own_origin(&self, origin: &str) -> bool {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        // Another local port is another program's page, and a function URL's
        // is the function's.
        host.is_some_and(|host| {
            self.is_own(host) && !is_url_host(host) && port_of(host) == Some(self.listen.port())
        })
    }

    pub fn port(&self) -> u16 {
        self.listen.port()
    }

    pub fn is_own(&self, host: &str) -> bool {
        let name = without_port(host);
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        if let Ok(address) = literal.unwrap_or(name).parse::<IpAddr>() {
            // An address cannot be rebound. Loopback is us, whatever the form.
            return address.is_loopback() || address == self.listen.ip();
        }
        let name = name.to_ascii_lowercase();
        name.strip_suffix(".localhost").is_some_and(|rest| !rest.is_empty())
            || self.names.contains(&name)
    }
}

pub fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}

pub fn port_of(host: &str) -> Option<u16> {
    let name = without_port(host);
    host[name.len()..].strip_prefix(':')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnNames {
        let listen = "127.0.0.1:9001".parse().unwrap();
        OwnNames::new(listen, &["lamu.Example".to_owned()])
    }

    fn check(host: &str, origin: Option<&str>, site: Option<&str>) -> Result<(), Foreign> {
        own().check(&Signs { host: Some(host), origin, sec_fetch_site: site })
    }

    #[test]
    fn programs_on_this_host_pass() {
        for host in [
            "localhost:9001",
            "LOCALHOST",
            "127.0.0.1:9001",
            "127.0.0.1",
            "[::1]:9001",
            "[::1]",
            "lamu.example:9001",
            "us-east-1.localhost:9001",
        ] {
            assert_eq!(check(host, None, None), Ok(()), "{host}");
        }
        assert_eq!(own().check(&Signs::default()), Ok(()), "no headers at all");
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in ["evil.example", "localhost.evil.example:9001", "192.0.2.1:9001", ".localhost"]
        {
            assert_eq!(check(host, None, None), Err(Foreign::Host), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost:3000",
            "file://",
            // A function's own page.
            "http://x.lambda-url.us-east-1.localhost:9001",
        ] {
            assert_eq!(
                check("localhost:9001", Some(origin), None),
                Err(Foreign::Origin),
                "{origin}"
            );
        }
        assert_eq!(check("localhost:9001", None, Some("cross-site")), Err(Foreign::Origin));
        assert_eq!(check("localhost:9001", None, Some("same-site")), Err(Foreign::Origin));
    }

    #[test]
    fn our_own_pages_pass() {
        let origin = Some("http://localhost:9001");
        assert_eq!(check("localhost:9001", origin, Some("same-origin")), Ok(()));
        assert_eq!(check("localhost:9001", None, Some("none")), Ok(()));
    }
}
