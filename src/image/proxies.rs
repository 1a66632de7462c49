//! Proxies for builds, as the docker command has them: from `proxies` in Docker's own config, as build arguments that
//! every Dockerfile may use, that no layer keeps and no cache depends on.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::platform::docker::{Daemon, config_dir};

/// What the config calls them, and the arguments.
const NAMES: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

/// The arguments for builds by this daemon.
pub(super) fn args(daemon: &Daemon) -> BTreeMap<String, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let text = config_dir(&variable).and_then(|dir| fs::read(dir.join("config.json")).ok());
    let config: Value = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    of(&config, &daemon.to_string())
}

fn of(config: &Value, host: &str) -> BTreeMap<String, String> {
    let proxies = &config["proxies"];
    let own = proxies.get(host).unwrap_or(&proxies["default"]);
    let mut args = BTreeMap::new();
    for (key, name) in NAMES {
        if let Some(value) = own[key].as_str().filter(|value| !value.is_empty()) {
            args.insert(name.to_owned(), value.to_owned());
            args.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_own_or_those_of_all() {
        let config = serde_json::json!({ "proxies": {
            "default": { "httpProxy": "http://proxy:3128", "noProxy": "localhost" },
            "tcp://other:2375": { "httpsProxy": "http://another:3128" },
        }});
        let names = |host: &str| of(&config, host).into_keys().collect::<Vec<_>>().join(" ");
        assert_eq!(names("unix:///var/run/docker.sock"), "HTTP_PROXY NO_PROXY http_proxy no_proxy");
        assert_eq!(names("tcp://other:2375"), "HTTPS_PROXY https_proxy");
        assert!(of(&Value::Null, "x").is_empty());
    }
}
