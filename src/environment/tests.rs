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

fn containers() -> Target {
    Target { base_images: Some(BaseImages::default()), ..Target::processes() }
}

fn realised(environment: &Environment, lock: &Lock, target: &Target) -> Result<Option<Realisation>, Box<Diag>> {
    let built = BTreeMap::from([("default".to_owned(), "sha256:b1".to_owned())]);
    realisation("default", environment, &Known { lock, target, built: &built })
}

fn key(environment: &Environment, lock: &Lock) -> Digest {
    realised(environment, lock, &Target::processes()).unwrap().unwrap().digest
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
    let diag = realised(&environment(true, &[]), &other, &Target::processes()).unwrap_err();
    assert_eq!(diag.code, "environment-not-locked");
}

#[test]
fn a_described_environment_is_the_same_in_a_container() {
    let lock = lock(&lock::platform(), "1.17.0", &["aa"]);
    let plain = environment(false, &["libgomp1"]);
    let inside = realised(&plain, &lock, &containers()).unwrap().unwrap();
    assert_eq!(inside.digest, key(&plain, &lock));
}

#[test]
fn an_image_is_its_digest_and_a_build_what_was_built() {
    let of = |kind| Environment { span: Span::default(), kind, portable: false };
    let image = of(EnvironmentKind::Image("debian:12".to_owned()));
    let build = of(EnvironmentKind::Build(mlctl_core::workflow::ImageBuild {
        dockerfile: "Dockerfile".to_owned(),
        dir: ".".to_owned(),
        target: None,
        args: BTreeMap::new(),
        secrets: Vec::new(),
        ssh: false,
    }));
    for environment in [&image, &build] {
        let refused = realised(environment, &Lock::default(), &Target::processes()).unwrap_err();
        assert_eq!(refused.code, "environment-needs-container");
    }
    assert_eq!(realised(&image, &Lock::default(), &containers()).unwrap_err().code, "environment-not-locked");
    let locked = |digest: &str| {
        let locked = LockedImage { digest: digest.to_owned(), local: false };
        let images = BTreeMap::from([("debian:12".to_owned(), BTreeMap::from([(lock::platform(), locked)]))]);
        let lock = Lock { images, ..Lock::default() };
        realised(&image, &lock, &containers()).unwrap().unwrap().digest
    };
    assert_ne!(locked("sha256:aa"), locked("sha256:bb"));
    let built = realised(&build, &Lock::default(), &containers()).unwrap().unwrap();
    assert_eq!(built.digest, locked("sha256:b1"), "the id of what was built");
    let known = Known { lock: &Lock::default(), target: &containers(), built: &BTreeMap::new() };
    assert_eq!(realisation("default", &build, &known).unwrap(), None, "not built yet");
}
