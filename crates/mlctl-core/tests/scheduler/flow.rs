//! Plans from the text of a spec.

use std::collections::HashMap;
use std::sync::Arc;

use mlctl_core::diag::Source;
use mlctl_core::digest::Digest;
use mlctl_core::params::{Given, GivenValue, bind};
use mlctl_core::plan::{Plan, PlanError, Request, plan};
use mlctl_core::scheduler::Facts;

/// A spec with the project's table in front.
pub(crate) fn try_plan(spec: &str, params: &[(&str, &str)], targets: &[&str]) -> Result<Plan, PlanError> {
    let text = format!("project.name = \"test\"\n{spec}");
    let parsed = match mlctl_core::spec::parse(&Source { name: "mlctl.toml".to_owned(), text }) {
        Ok(parsed) => parsed,
        Err(diags) => panic!("{diags:#?}"),
    };
    let given: Vec<Given> = params
        .iter()
        .map(|(name, value)| Given {
            name: (*name).to_owned(),
            value: GivenValue::Text((*value).to_owned()),
            from: "test".to_owned(),
        })
        .collect();
    let params = bind(&parsed.workflow, &given).expect("params that bind");
    let request = Request { targets: targets.iter().map(|t| (*t).to_owned()).collect(), ..Request::default() };
    plan(Arc::new(parsed.workflow), params, &request)
}

/// The plan of a spec that can be planned.
pub(crate) fn planned(spec: &str, targets: &[&str]) -> Plan {
    try_plan(spec, &[], targets).expect("a plan")
}

/// Facts for any plan.
pub(crate) fn facts(plan: &Plan) -> Facts {
    Facts {
        sources: plan.needed().map(|step| (step, Digest::of(b"sources"))).collect(),
        host: Some(Digest::of(b"host")),
        files: HashMap::new(),
        ..Facts::default()
    }
}
