//! Which proxy, if any: the usual variables, read once. Pure but for [`from_environment`].

use crate::Error;

/// Finds the proxy for a URL among environment variables.
pub(crate) fn from_environment(url: &str) -> Result<Option<(String, String)>, Error> {
    choose(url, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// As [`from_environment`], with any source of variables. Gives the variable's name and value.
fn choose(url: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<Option<(String, String)>, Error> {
    let (scheme, host, port) = parts(url).ok_or_else(|| Error::Url { url: url.into() })?;
    let either = |name: &str| {
        let upper = name.to_ascii_uppercase();
        // The lower-case name first; HTTP_PROXY in capitals can be set by a CGI request, but this is no CGI program.
        get(name).map(|value| (name.to_owned(), value)).or_else(|| get(&upper).map(|value| (upper, value)))
    };
    let Some(proxy) = either(&format!("{scheme}_proxy")).or_else(|| either("all_proxy")) else { return Ok(None) };
    let excluded = either("no_proxy").is_some_and(|(_, list)| is_excluded(&list, &host, port));
    Ok((!excluded).then_some(proxy))
}

/// Scheme, host (lower case, no brackets) and port of a URL.
pub(crate) fn parts(url: &str) -> Option<(String, String, u16)> {
    let uri: ureq::http::Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let default = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
    if host.is_empty() { None } else { Some((scheme, host, uri.port_u16().unwrap_or(default))) }
}

/// `no_proxy`: names and addresses, each for itself and what lies below it, perhaps with a port; `*` for everything.
fn is_excluded(list: &str, host: &str, port: u16) -> bool {
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let (name, wanted_port) = match entry.rsplit_once(':') {
            // A second colon means an IPv6 address, which has no port here.
            Some((name, digits)) if !name.contains(':') => (name.to_owned(), digits.parse().ok()),
            _ => (entry, None),
        };
        let name = name.trim_start_matches("*.").trim_start_matches('.').trim_matches(['[', ']']);
        let matches = name == "*" || host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        matches && wanted_port.is_none_or(|wanted: u16| wanted == port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        choose(url, &get).unwrap().map(|(_, value)| value)
    }

    #[test]
    fn the_scheme_chooses_the_variable() {
        let variables = [("http_proxy", "http://plain:1"), ("HTTPS_PROXY", "http://secure:2")];
        assert_eq!(chosen("http://repo.example/x", &variables).as_deref(), Some("http://plain:1"));
        assert_eq!(chosen("https://repo.example/x", &variables).as_deref(), Some("http://secure:2"));
        assert_eq!(chosen("https://repo.example/x", &[("http_proxy", "http://plain:1")]), None);
        assert_eq!(chosen("https://repo.example/x", &[("ALL_PROXY", "http://all:3")]).as_deref(), Some("http://all:3"));
    }

    #[test]
    fn no_proxy_names_hosts_and_what_lies_below() {
        for list in ["example.com", ".example.com", "*.example.com", "a.b, repo.example.com:8080", "*"] {
            let variables = [("http_proxy", "http://plain:1"), ("NO_PROXY", list)];
            assert_eq!(chosen("http://repo.example.com:8080/", &variables), None, "{list}");
        }
        for list in ["ample.com", "repo.example.com:80", "repo"] {
            let variables = [("http_proxy", "http://plain:1"), ("no_proxy", list)];
            assert!(chosen("http://repo.example.com:8080/", &variables).is_some(), "{list}");
        }
        assert_eq!(chosen("http://[::1]:80/", &[("http_proxy", "http://p:1"), ("no_proxy", "::1")]), None);
    }
}
