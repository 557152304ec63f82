//! Which endpoints functions may reach, and how each appears inside a sandbox,
//! which has a loopback of its own and no route anywhere.
//!
//! ```text
//!  http://127.0.0.1:9000        the same address and port, inside
//!  http://10.0.0.5:9000         the same, as an address of the loopback
//!  https://sqs.example.com      a line of /etc/hosts: 127.77.0.1, port 443
//!  self                         lamu's own API: 127.77.0.2, port 9001
//! ```
//!
//! So a URL that works outside works inside unchanged, and TLS and signatures
//! stay between the function and the service. Rules only. Not here: sockets
//! (`lamu_sandbox`), names to addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Each is a socket in every sandbox.
pub const ENDPOINTS_MAX: usize = 16;

/// Where init serves the Runtime API inside.
const RUNTIME_API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9001);

/// The port of lamu's own API inside, wherever it listens outside.
const OWN_PORT: u16 = 9001;

/// One endpoint as the operator named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    secure: bool,
    host: Host,
    port: u16,
    /// From the first slash on.
    path: String,
    service: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Localhost,
    Name(String),
    Own,
}

/// Why a text is no endpoint, or endpoints do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    #[error("not a URL like http://127.0.0.1:9000 or https://sqs.us-east-1.amazonaws.com")]
    Form,
    #[error("{host:?} is neither an address nor a host name")]
    Host { host: String },
    #[error("{port:?} is no port")]
    Port { port: String },
    #[error("{address} is never opened: link-local, metadata, multicast or no address at all")]
    Closed { address: IpAddr },
    #[error(
        "{service:?} is no service; write it as in AWS_ENDPOINT_URL_<SERVICE>: s3, sqs, lambda"
    )]
    Service { service: String },
    #[error("at most {ENDPOINTS_MAX} endpoints can be opened")]
    TooMany,
    #[error(
        "inside a sandbox {RUNTIME_API} is the Runtime API; name the service, so that functions \
         are told another address, or let the endpoint listen on another port"
    )]
    RuntimeApi,
}

/// What is made in every sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPlan {
    pub doors: Vec<EgressDoor>,
    /// Lines of `/etc/hosts`.
    pub hosts: Vec<(IpAddr, String)>,
    /// Variables that tell SDKs.
    pub variables: Vec<(String, String)>,
}

/// Who connects to `inside` in a sandbox is led to `target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressDoor {
    pub inside: SocketAddr,
    pub target: EgressTarget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressTarget {
    Address(SocketAddr),
    /// `localhost`, whichever of its addresses answers.
    Localhost {
        port: u16,
    },
    /// Looked up at each connection; what it must not mean is refused then.
    Name {
        name: String,
        port: u16,
    },
    /// lamu's own API.
    Own,
}

impl Endpoint {
    pub fn parse(url: &str, service: Option<&str>) -> Result<Endpoint, EgressError> {
        let service = service.map(check_service).transpose()?;
        if url == "self" {
            let (host, port, path) = (Host::Own, OWN_PORT, String::new());
            return Ok(Endpoint { secure: false, host, port, path, service });
        }
        let (secure, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(EgressError::Form),
        };
        if rest.contains(['@', '?', '#', ' ', '\\']) || rest.chars().any(char::is_control) {
            return Err(EgressError::Form);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, after)) => (host, Some(after.strip_prefix(':').ok_or(EgressError::Form)?)),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            None => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(port) => port
                .parse::<u16>()
                .ok()
                .filter(|number| *number != 0)
                .ok_or_else(|| EgressError::Port { port: port.to_owned() })?,
        };
        let host = Host::parse(host)?;
        Ok(Endpoint { secure, host, port, path: path.trim_end_matches('/').to_owned(), service })
    }

    fn url(&self, host: &str, port: u16) -> String {
        let (scheme, usual) = if self.secure { ("https", 443) } else { ("http", 80) };
        let port = if port == usual { String::new() } else { format!(":{port}") };
        format!("{scheme}://{host}{port}{}", self.path)
    }
}

impl Host {
    fn parse(host: &str) -> Result<Host, EgressError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = address.to_canonical();
            return match is_closed(address) {
                true => Err(EgressError::Closed { address }),
                false => Ok(Host::Address(address)),
            };
        }
        let name = host.to_ascii_lowercase();
        if name == "localhost" {
            return Ok(Host::Localhost);
        }
        let fits = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A last label of digits would be an address that did not parse.
        let numeric = name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x"));
        if name.len() > 253 || numeric || !name.split('.').all(fits) {
            return Err(EgressError::Host { host: host.to_owned() });
        }
        Ok(Host::Name(name))
    }

    fn text(&self) -> String {
        match self {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Host::Address(address) => address.to_string(),
            Host::Localhost => "localhost".to_owned(),
            Host::Name(name) => name.clone(),
            Host::Own => "self".to_owned(),
        }
    }
}

fn check_service(service: &str) -> Result<String, EgressError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ' ');
    if service.is_empty() || service.len() > 64 || !service.chars().all(fits) {
        return Err(EgressError::Service { service: service.to_owned() });
    }
    Ok(service.to_ascii_uppercase().replace(['-', ' '], "_"))
}

impl EgressPlan {
    /// The error names which endpoint it is, counted from 0.
    pub fn new(endpoints: &[Endpoint]) -> Result<EgressPlan, (usize, EgressError)> {
        let mut plan = EgressPlan::default();
        let mut names = Names::default();
        for (at, endpoint) in endpoints.iter().enumerate() {
            let port = endpoint.port;
            let (inside, target) = match &endpoint.host {
                Host::Address(address) => {
                    let same = SocketAddr::new(*address, port);
                    (same, EgressTarget::Address(same))
                }
                Host::Localhost => {
                    let inside = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                    (inside, EgressTarget::Localhost { port })
                }
                Host::Name(name) => {
                    let address = names.address(name);
                    let line = (address, name.clone());
                    if !plan.hosts.contains(&line) {
                        plan.hosts.push(line);
                    }
                    let target = EgressTarget::Name { name: name.clone(), port };
                    (SocketAddr::new(address, port), target)
                }
                Host::Own => (SocketAddr::new(names.address("self"), port), EgressTarget::Own),
            };
            let (inside, host) = match (inside == RUNTIME_API, &endpoint.service) {
                (true, None) => return Err((at, EgressError::RuntimeApi)),
                (true, Some(_)) => {
                    let address = names.address("127.0.0.1");
                    (SocketAddr::new(address, port), address.to_string())
                }
                (false, _) if endpoint.host == Host::Own => (inside, inside.ip().to_string()),
                (false, _) => (inside, endpoint.host.text()),
            };
            if let Some(service) = &endpoint.service {
                let name = match service.as_str() {
                    "ALL" => "AWS_ENDPOINT_URL".to_owned(),
                    service => format!("AWS_ENDPOINT_URL_{service}"),
                };
                plan.variables.retain(|(other, _)| *other != name);
                plan.variables.push((name, endpoint.url(&host, port)));
            }
            // Several services at one address share its door.
            if !plan.doors.iter().any(|door| door.inside == inside) {
                plan.doors.push(EgressDoor { inside, target });
            }
            if plan.doors.len() > ENDPOINTS_MAX {
                return Err((at, EgressError::TooMany));
            }
        }
        Ok(plan)
    }
}

/// An address of 127.77.0.0/24 for each name, in the order of asking.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn address(&mut self, name: &str) -> IpAddr {
        let at = self.0.iter().position(|other| other == name).unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        // Beyond 255 the plan has been refused for its doors.
        Ipv4Addr::new(127, 77, 0, u8::try_from(at + 1).unwrap_or(u8::MAX)).into()
    }
}

/// What nobody may open, not even by configuration.
pub fn is_closed(address: IpAddr) -> bool {
    /// Of metadata services that are not link-local.
    const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address.octets()[0] == 0
                || address == METADATA_V4
        }
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.is_multicast()
                || address.is_unspecified()
                || address == METADATA_V6
                // IPv4 addresses in other clothes: what they mean is not ours
                // to find out.
                || address.segments()[..6] == [0, 0, 0, 0, 0, 0] && !address.is_loopback()
                || address.segments()[..2] == [0x64, 0xff9b]
                || address.segments()[0] == 0x2002
        }
    }
}

/// What a host name must not turn out to mean: in addition, this machine.
/// Its own services are opened by address or as `localhost`, so that who
/// answers name queries cannot open others.
pub fn is_closed_to_names(address: IpAddr) -> bool {
    is_closed(address) || address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(endpoints: &[(&str, Option<&str>)]) -> Result<EgressPlan, (usize, EgressError)> {
        let parsed: Vec<Endpoint> = endpoints
            .iter()
            .map(|(url, service)| Endpoint::parse(url, *service).unwrap())
            .collect();
        EgressPlan::new(&parsed)
    }

    fn inside(url: &str) -> String {
        plan(&[(url, None)]).unwrap().doors[0].inside.to_string()
    }

    #[test]
    fn an_endpoint_appears_inside_where_its_url_looks_for_it() {
        for (url, expected) in [
            ("http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://localhost:9000/path/", "127.0.0.1:9000"),
            ("https://10.0.0.5", "10.0.0.5:443"),
            ("http://[::1]:5000", "[::1]:5000"),
            ("http://[fd00::5]", "[fd00::5]:80"),
            ("http://[::ffff:10.0.0.5]:1", "10.0.0.5:1"),
            ("https://sqs.us-east-1.amazonaws.com", "127.77.0.1:443"),
            ("self", "127.77.0.1:9001"),
        ] {
            assert_eq!(inside(url), expected, "{url}");
        }
    }

    #[test]
    fn functions_are_told_the_url_that_works_inside() {
        let plan = plan(&[
            ("http://127.0.0.1:9000", Some("s3")),
            ("http://127.0.0.1:9000", Some("sqs")),
            ("https://Logs.example.com:8443/x/", Some("CloudWatch Logs")),
            ("https://logs.example.com", None),
            ("http://127.0.0.1:9001", Some("dynamodb")),
            ("self", Some("lambda")),
            ("http://[fd00::5]:80", Some("all")),
        ])
        .unwrap();
        let told: Vec<String> =
            plan.variables.iter().map(|(name, url)| format!("{name}={url}")).collect();
        assert_eq!(
            told,
            [
                "AWS_ENDPOINT_URL_S3=http://127.0.0.1:9000",
                "AWS_ENDPOINT_URL_SQS=http://127.0.0.1:9000",
                "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=https://logs.example.com:8443/x",
                "AWS_ENDPOINT_URL_DYNAMODB=http://127.77.0.2:9001",
                "AWS_ENDPOINT_URL_LAMBDA=http://127.77.0.3:9001",
                "AWS_ENDPOINT_URL=http://[fd00::5]",
            ]
        );
        assert_eq!(plan.hosts, [("127.77.0.1".parse().unwrap(), "logs.example.com".to_owned())]);
        let doors: Vec<String> = plan.doors.iter().map(|door| door.inside.to_string()).collect();
        assert_eq!(
            doors,
            [
                "127.0.0.1:9000",
                "127.77.0.1:8443",
                "127.77.0.1:443",
                "127.77.0.2:9001",
                "127.77.0.3:9001",
                "[fd00::5]:80"
            ]
        );
        assert_eq!(plan.doors[3].target, EgressTarget::Address("127.0.0.1:9001".parse().unwrap()));
        assert_eq!(plan.doors[4].target, EgressTarget::Own);
    }

    #[test]
    fn endpoints_that_cannot_be_are_refused_with_their_number() {
        let taken = plan(&[("http://127.0.0.1:1", None), ("http://127.0.0.1:9001", None)]);
        assert_eq!(taken, Err((1, EgressError::RuntimeApi)));
        let many: Vec<String> = (1..=17).map(|port| format!("http://127.0.0.1:{port}")).collect();
        let many: Vec<(&str, Option<&str>)> = many.iter().map(|url| (url.as_str(), None)).collect();
        assert_eq!(plan(&many[..16]).unwrap().doors.len(), 16);
        assert_eq!(plan(&many), Err((16, EgressError::TooMany)));
    }

    #[test]
    fn what_is_no_endpoint_says_why() {
        for url in
            ["", "ftp://x", "http://u@h", "http://h/?q", "http://[::1", "http://[::1]x", "Self"]
        {
            assert!(Endpoint::parse(url, None).is_err(), "{url}");
        }
        for (url, part) in [
            ("http://h:0", "\"0\" is no port"),
            ("http://h:70000", "is no port"),
            ("http://-.", "neither an address nor a host name"),
            ("http://1.2.3", "neither an address nor a host name"),
            ("http://0x7f.1:80", "neither an address nor a host name"),
            ("http://169.254.169.254", "never opened"),
            ("http://[fe80::1]:80", "never opened"),
            ("http://[::ffff:169.254.169.254]", "never opened"),
            ("http://224.0.0.1", "never opened"),
            ("http://0.0.0.0:80", "never opened"),
        ] {
            let error = Endpoint::parse(url, None).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        assert!(Endpoint::parse("http://h", Some("s3=")).is_err());
        assert!(Endpoint::parse("http://h", Some("")).is_err());
    }

    #[test]
    fn some_addresses_are_closed_to_all_and_this_machine_to_names() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for closed in [
            "169.254.169.254",
            "169.254.0.1",
            "255.255.255.255",
            "0.1.2.3",
            "239.1.1.1",
            "100.100.100.200",
            "fe80::1",
            "ff02::1",
            "::",
            "fd00:ec2::254",
            "::ffff:169.254.1.1",
            "::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(is_closed(address(closed)) && is_closed_to_names(address(closed)), "{closed}");
        }
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(!is_closed(address(local)) && is_closed_to_names(address(local)), "{local}");
        }
        for open in ["10.0.0.1", "192.168.1.1", "52.1.2.3", "fd00::1", "2600::1"] {
            assert!(!is_closed_to_names(address(open)), "{open}");
        }
    }
}
