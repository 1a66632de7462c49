use mlctl_core::diag::Span;

use super::*;
use crate::lock::Distribution;

fn environment(portable: bool, system_packages: &[&str]) -> Environment {
    let system_packages = system_packages.iter().map(|name| (*name).to_owned()).collect();
    let kind = EnvironmentKind::Described {
        python: Some("3.11".to_owned()),
        requirements: None,
        packages: vec!["six".to_owned()],
        system_packages,
    };
    Environment { span: Span::default(), kind, portable }
}

fn lock(platform: &str, version: &str, sha256: &[&str]) -> Lock {
    let sha256 = sha256.iter().map(|hash| (*hash).to_owned()).collect();
    let six = Distribution { name: "six".to_owned(), version: version.to_owned(), sha256 };
    let locked = LockedEnvironment {
        inputs: Digest::of(b"inputs"),
        python: "3.11".to_owned(),
        options: Vec::new(),
        distributions: vec![six],
    };
    let environments = BTreeMap::from([("default".to_owned(), BTreeMap::from([(platform.to_owned(), locked)]))]);
    Lock { environments, ..Lock::default() }
}

fn key(environment: &Environment, lock: &Lock) -> Digest {
    realisation("default", environment, lock, &Target::processes()).unwrap().digest
}

#[test]
fn a_realisation_is_platform_python_versions_and_system_packages() {
    let here = lock::platform();
    let plain = environment(false, &[]);
    let digest = key(&plain, &lock(&here, "1.17.0", &["aa"]));
    assert_eq!(digest, key(&plain, &lock(&here, "1.17.0", &["aa", "bb"])), "pip and uv mean the same");
    let others = [
        key(&plain, &lock(&here, "1.16.0", &["aa"])),
        key(&environment(true, &[]), &lock(&here, "1.17.0", &["aa"])),
        key(&environment(false, &["libgomp1"]), &lock(&here, "1.17.0", &["aa"])),
        host(&here),
    ];
    for (at, other) in others.iter().enumerate() {
        assert_ne!(digest, *other);
        assert!(!others[..at].contains(other));
    }
}

#[test]
fn the_order_of_system_packages_does_not_matter() {
    let lock = lock(&lock::platform(), "1.17.0", &["aa"]);
    assert_eq!(key(&environment(false, &["a", "b"]), &lock), key(&environment(false, &["b", "a", "b"]), &lock));
}

#[test]
fn what_another_platform_has_locked_is_not_taken() {
    let other = lock("plan9-mips", "1.17.0", &["aa"]);
    let diag = realisation("default", &environment(true, &[]), &other, &Target::processes()).unwrap_err();
    assert_eq!(diag.code, "environment-not-locked");
}
