//! A context's certificate authorities: a file that must be there, relative to the file that names it.

use std::fs;

use crate::support::Project;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const SPEC: &str = "[project]\nname = \"ca\"\n[steps.only]\n\
                    script = 'for v in SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE PIP_CERT; do \
                    eval \"test -s \\\"\\$$v\\\"\"; done; printf %s \"$PIP_CERT\" > \"$MLCTL_OUTPUT_SAID\"'\n\
                    cache = false\noutputs.said = { type = \"string\" }\n";

fn said(project: &Project) -> String {
    project.ok(&["run"]);
    project.json(&["status"])["instances"][0]["values"]["said"].as_str().unwrap().to_owned()
}

#[test]
fn a_steps_programs_are_told_of_the_contexts_authorities() {
    let project = Project::new(&format!("{SPEC}[contexts.local]\nca = \"certs/ca.pem\"\n"));
    let missing = project.run(&["run"]);
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(missing.stderr.contains("`ca` of the context `local` (mlctl.toml) is `"), "{missing:?}");
    project.write("certs/ca.pem", "no certificate");
    let damaged = project.run(&["run"]);
    assert_eq!(damaged.code, 3, "{damaged:?}");
    assert!(damaged.stderr.contains("no certificate in PEM form"), "{damaged:?}");
    project.write("certs/ca.pem", CERTIFICATE);
    assert_eq!(said(&project), project.root().join("certs/ca.pem").to_str().unwrap());
}

#[test]
fn a_path_in_the_users_file_is_relative_to_it() {
    let project = Project::new(SPEC);
    let config = project.home().join(".config/mlctl");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("company.pem"), CERTIFICATE).unwrap();
    fs::write(config.join("config.toml"), "[contexts.local]\nca = \"company.pem\"\n").unwrap();
    assert_eq!(said(&project), config.join("company.pem").to_str().unwrap());
    fs::write(config.join("config.toml"), "[contexts.local]\nca = \"~/.config/mlctl/company.pem\"\n").unwrap();
    assert_eq!(said(&project), config.join("company.pem").to_str().unwrap());
}
