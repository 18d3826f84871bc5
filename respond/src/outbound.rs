//! Calls out of the process: only to hosts that configuration names, only to addresses that were vetted.
//!
//! A name is resolved once a call; each address is vetted, and the connection goes to one of exactly those, so that a name that
//! changes its mind between check and use gains nothing. No redirects, no proxy, TLS verified. Private, loopback and shared
//! addresses need `private_addresses_allowed`; link-local ones (where clouds keep their metadata) are refused always.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::config::Config;

/// An address that may not be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} is at {address}, which may not be called (see `private_addresses_allowed`)")]
pub(crate) struct Refused {
    host: String,
    address: IpAddr,
}

/// What is wrong with a URL before any name is resolved.
pub(crate) fn url_problem(config: &Config, url: &Url) -> Option<String> {
    let Some(host) = url.host() else { return Some("has no host".into()) };
    let scheme_allowed = url.scheme() == "https" || (url.scheme() == "http" && config.private_addresses_allowed);
    if !scheme_allowed {
        return Some(format!("`{}` is not allowed: use https (http needs `private_addresses_allowed`)", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("must not hold a user name or password".into());
    }
    let name = host.to_string();
    if !config.hosts_allowed.is_empty()
        && !config.hosts_allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(&name))
    {
        return Some(format!("host `{name}` is not in `hosts_allowed`"));
    }
    // The resolver is not asked about an address, so it is vetted here.
    let address = match host {
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain(_) => return None,
    };
    (!may_call(address, config.private_addresses_allowed)).then(|| Refused { host: name, address }.to_string())
}

/// A client that connects to vetted addresses only.
pub(crate) fn client(config: &Config) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(Vetted { private: config.private_addresses_allowed }))
        // Calls are rare: a fresh connection is vetted anew and is never found half dead.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
        .build()
}

struct Vetted {
    private: bool,
}

impl Resolve for Vetted {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        Box::pin(async move {
            let host = name.as_str();
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            // One bad address spoils the name: nobody mixes them by accident.
            if let Some(bad) = addresses.iter().find(|address| !may_call(address.ip(), private)) {
                return Err(Refused { host: host.into(), address: bad.ip() }.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The refusal behind a failed call, if that is what it was.
pub(crate) fn refusal(error: &reqwest::Error) -> Option<&Refused> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(refused) = inner.downcast_ref() {
            return Some(refused);
        }
        source = inner.source();
    }
    None
}

fn may_call(address: IpAddr, private: bool) -> bool {
    match address {
        IpAddr::V4(v4) => may_call_v4(v4, private),
        IpAddr::V6(v6) => may_call_v6(v6, private),
    }
}

fn may_call_v4(address: Ipv4Addr, private: bool) -> bool {
    let [a, b, c, _] = address.octets();
    let never = a == 0 || a >= 224 || address.is_link_local() || address.is_documentation();
    let shared = a == 100 && b & 0xc0 == 64;
    let special = (a == 198 && b & 0xfe == 18) || (a == 192 && b == 0 && c == 0);
    !never && (private || !(address.is_private() || address.is_loopback() || shared || special))
}

fn may_call_v6(address: Ipv6Addr, private: bool) -> bool {
    let segments = address.segments();
    let [.., high, low] = segments;
    let embedded = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    if let Some(v4) = address.to_ipv4_mapped() {
        return may_call_v4(v4, private);
    }
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return may_call_v4(embedded, private);
    }
    if address.is_loopback() || segments[0] & 0xfe00 == 0xfc00 {
        return private;
    }
    // Only 2000::/3 is routed; in it, tunnels (Teredo and its neighbours, 6to4) hide another address, and 2001:db8 is for books.
    let tunnel = (segments[0] == 0x2001 && segments[1] < 0x200) || segments[0] == 0x2002;
    segments[0] & 0xe000 == 0x2000 && !tunnel && segments[..2] != [0x2001, 0xdb8]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str, private: bool) -> bool {
        may_call(text.parse().expect("is an address"), private)
    }

    #[test]
    fn public_addresses_may_be_called() {
        for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(allowed(address, false), "{address}");
        }
    }

    #[test]
    fn private_addresses_need_permission() {
        let private =
            ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1", "198.18.0.1"];
        for address in private.into_iter().chain(["::ffff:10.0.0.1", "64:ff9b::a00:1"]) {
            assert!(!allowed(address, false), "{address}");
            assert!(allowed(address, true), "{address}");
        }
    }

    #[test]
    fn metadata_and_nonsense_are_refused_always() {
        for address in
            ["169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "fe80::1", "ff02::1", "2002:a00:1::"]
        {
            assert!(!allowed(address, true), "{address}");
        }
        assert!(!allowed("::ffff:169.254.169.254", true));
    }

    #[test]
    fn a_url_is_https_and_names_an_allowed_host() {
        let mut config = Config { hosts_allowed: vec!["hooks.example".into()], ..Config::default() };
        let problem = |config: &Config, url: &str| url_problem(config, &Url::parse(url).expect("is a url"));
        assert_eq!(problem(&config, "https://HOOKS.example/a"), None);
        assert!(problem(&config, "https://other.example/").expect("refused").contains("hosts_allowed"));
        assert!(problem(&config, "http://hooks.example/").expect("refused").contains("https"));
        assert!(problem(&config, "https://u:p@hooks.example/").expect("refused").contains("password"));
        config.hosts_allowed.clear();
        assert!(problem(&config, "https://10.0.0.1/").expect("refused").contains("private_addresses_allowed"));
    }
}
