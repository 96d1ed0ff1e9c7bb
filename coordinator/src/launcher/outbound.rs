//! `--allow-outbound`: names of hosts become addresses when the cluster is started.

use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::str::FromStr;

use super::LauncherError;
use crate::replica::outbound::Rule;

/// `HOST:PORT`, of which both may be `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Name or address; `None` = any.
    host: Option<String>,
    /// 0 = any.
    port: u16,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not HOST:PORT (as db.example:5432, 192.0.2.7:53, [2001:db8::1]:443, *:443)")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_v6 = bare.contains(':');
        if bare.is_empty() || is_v6 && (bare == host || bare.parse::<IpAddr>().is_err()) {
            return Err(wrong());
        }
        let port = match port {
            "*" => 0,
            port => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
        };
        Ok(Self { host: (bare != "*").then(|| bare.to_owned()), port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("*");
        if self.port == 0 { write!(f, "{host}:*") } else { write!(f, "{host}:{}", self.port) }
    }
}

impl Destination {
    /// The addresses that it stands for now.
    fn rules(&self) -> io::Result<Vec<Rule>> {
        let Some(host) = &self.host else { return Ok(vec![Rule { address: None, port: self.port }]) };
        let mut rules: Vec<Rule> = Vec::new();
        for address in (host.as_str(), self.port).to_socket_addrs()? {
            let rule = Rule { address: Some(address.ip().to_canonical()), port: self.port };
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        Ok(rules)
    }
}

/// What all of them stand for.
pub fn resolve(destinations: &[Destination]) -> Result<Vec<Rule>, LauncherError> {
    let mut rules = Vec::new();
    for destination in destinations {
        let resolved = destination.rules();
        rules.extend(
            resolved.map_err(|source| LauncherError::Resolve { host: destination.to_string(), source })?,
        );
    }
    let most = dmt::bounds::MAX_OUTBOUND_RULES;
    if rules.len() > most {
        return Err(LauncherError::TooManyOutbound { count: rules.len(), most });
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::{Destination, resolve};
    use crate::replica::outbound::Rule;

    #[test]
    fn reads_destinations() {
        let of = |text: &str| text.parse::<Destination>().map(|d| d.to_string());
        assert_eq!(of("db.example:5432"), Ok("db.example:5432".to_owned()));
        assert_eq!(of("*:443"), Ok("*:443".to_owned()));
        assert_eq!(of("192.0.2.7:*"), Ok("192.0.2.7:*".to_owned()));
        assert!(of("[2001:db8::1]:443").is_ok());
        for wrong in ["db.example", ":1", "a:0", "a:b", "2001:db8::1:443", "[a:b]:1", "a:70000"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_stand_for_themselves() {
        let parse = |text: &str| text.parse::<Destination>().unwrap();
        let rules = resolve(&[parse("192.0.2.7:53"), parse("[::1]:*"), parse("*:80")]).unwrap();
        let rule = |address: Option<&str>, port| Rule { address: address.map(|a| a.parse().unwrap()), port };
        assert_eq!(rules, [rule(Some("192.0.2.7"), 53), rule(Some("::1"), 0), rule(None, 80)]);
        assert!(resolve(&[parse("no.such.host.invalid:1")]).is_err());
    }
}
