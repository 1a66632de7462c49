//! What differs between two contexts: place, size and images. What steps do, does not; the keys prove it.

use std::collections::{BTreeMap, BTreeSet};

use mlctl_core::digest::Digest;
use mlctl_core::forecast::forecast;
use mlctl_core::plan::Plan;
use mlctl_core::workflow::Resources;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{Context, resource_entries};
use crate::engine::Engine;
use crate::error::CommandError;
use crate::forecast::{Outset, Stored, outset};
use crate::image::Builder;
use crate::lock::Lock;
use crate::prepare::Asked;
use crate::session::{self, Project, Session};
use crate::ui::table::Table;
use crate::ui::{Format, count, size};

/// Of what a context says of everything.
const CONTEXT: &str = "context";
/// How many instances with other keys are named.
const NAMED: usize = 5;

/// Prints what differs between the context in force and the one of this name.
pub(super) fn diff(session: &Session, other: &str, asked: &Asked, locked: bool) -> Result<(), CommandError> {
    let project = session.project()?;
    session.ui.warnings(&project.source, &project.warnings);
    let left = session.context(&project)?;
    let right = session.named_context(&session.contexts(&project)?, other)?;
    let sides =
        [Side::of(session, &project, &left, asked, locked)?, Side::of(session, &project, &right, asked, locked)?];
    let differences = differences(&sides);
    let keys = Keys::compare(&sides);
    match session.ui.format {
        Format::Json => session.ui.json(&json!({
            "contexts": [left.name, right.name],
            "differences": differences,
            "keys": keys,
        })),
        Format::Name => session.ui.result(&differences.iter().map(|one| one.name() + "\n").collect::<String>()),
        Format::Text => session.ui.result(&text(&left.name, &right.name, &differences, &keys)),
    }
}

/// A workflow in one context.
struct Side {
    /// What the context says, but for sizes.
    place: BTreeMap<String, Value>,
    /// By step.
    sizes: BTreeMap<String, Resources>,
    /// By environment.
    images: BTreeMap<String, String>,
    /// By instance; `None`: it is known only when what it depends on has run, or there is none.
    keys: BTreeMap<String, Option<Digest>>,
}

impl Side {
    fn of(
        session: &Session,
        project: &Project,
        context: &Context,
        asked: &Asked,
        locked: bool,
    ) -> Result<Self, CommandError> {
        let store = session::open_store()?;
        let Outset { plan, facts, files, engine, .. } = outset(session, (project, context), &store, asked, locked)?;
        let lock = Lock::read(&project.root)?;
        let platform = engine.target(project, context).platform;
        let mut images = BTreeMap::new();
        // What is not locked yet has no image, and no realisation.
        let locked = facts.environments.keys().filter(|_| !matches!(engine, Engine::Process));
        for name in locked {
            let built = Builder::wanted(name, project, context, &lock, store.root(), &platform)?;
            images.extend(built.map(|built| (name.clone(), built.reference)));
        }
        let is_size = |key: &str| key.starts_with("steps.") && key.contains(".resources.");
        let place = context.entries().into_iter().filter(|(key, _)| !is_size(key)).collect();
        let sizes = sizes(&plan);
        // Keys do not depend on where a result is: what this machine has is enough to know them.
        let mut known = Stored { store: &store, inputs: &files.inputs, keeps: false };
        let forecast = forecast(plan, facts, &mut known);
        let keys = forecast.iter().map(|(instance, _)| (instance.id(), instance.key())).collect();
        Ok(Self { place, sizes, images, keys })
    }
}

fn sizes(plan: &Plan) -> BTreeMap<String, Resources> {
    plan.needed().map(|step| (plan.step(step).name.clone(), plan.steps[step.0 as usize].resources)).collect()
}

/// One thing that differs.
#[derive(Debug, Serialize)]
struct Difference {
    /// `context`, or the step or environment.
    of: String,
    what: String,
    /// In the one and in the other context; `null`: it is not said. Sizes are bytes.
    values: [Value; 2],
}

impl Difference {
    fn name(&self) -> String {
        format!("{}.{}", self.of, self.what)
    }
}

fn differences(sides: &[Side; 2]) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut add = |of: &str, what: &str, values: [Value; 2]| {
        if values[0] != values[1] {
            all.push(Difference { of: of.to_owned(), what: what.to_owned(), values });
        }
    };
    for key in names(sides, |side| side.place.keys()) {
        let value = |side: &Side| side.place.get(key).cloned().unwrap_or_default();
        match key.strip_prefix("steps.").and_then(|rest| rest.split_once('.')) {
            Some((step, what)) => add(step, what, [value(&sides[0]), value(&sides[1])]),
            None => add(CONTEXT, key, [value(&sides[0]), value(&sides[1])]),
        }
    }
    for step in names(sides, |side| side.sizes.keys()) {
        let [left, right] =
            [0, 1].map(|side| resource_entries(sides[side].sizes.get(step).copied().unwrap_or_default()));
        for ((what, left), (_, right)) in left.into_iter().zip(right) {
            add(step, what, [left, right]);
        }
    }
    for name in names(sides, |side| side.images.keys()) {
        let value = |side: &Side| json!(side.images.get(name));
        add(name, "image", [value(&sides[0]), value(&sides[1])]);
    }
    // What is said of everything first, then what belongs together.
    all.sort_by_key(|one| (one.of != CONTEXT, one.of.clone()));
    all
}

/// The names that one side has, or both.
fn names<'a, I: Iterator<Item = &'a String>>(sides: &'a [Side; 2], of: impl Fn(&'a Side) -> I) -> BTreeSet<&'a str> {
    sides.iter().flat_map(of).map(String::as_str).collect()
}

/// Which instances have the same key in both contexts.
#[derive(Debug, Serialize)]
struct Keys {
    same: u64,
    /// Their results are not shared.
    different: Vec<String>,
    /// Known only when what they depend on has run, or without a key.
    unknown: u64,
}

impl Keys {
    fn compare(sides: &[Side; 2]) -> Self {
        let mut keys = Self { same: 0, different: Vec::new(), unknown: 0 };
        for (instance, left) in &sides[0].keys {
            match (left, sides[1].keys.get(instance).copied().flatten()) {
                (Some(left), Some(right)) if *left == right => keys.same += 1,
                (Some(_), Some(_)) => keys.different.push(instance.clone()),
                _ => keys.unknown += 1,
            }
        }
        keys
    }
}

fn text(left: &str, right: &str, differences: &[Difference], keys: &Keys) -> String {
    let mut table = Table::new(&["OF", "WHAT", left, right]);
    for Difference { of, what, values } in differences {
        let [left, right] = values.each_ref().map(|value| match (value, what.as_str()) {
            (Value::Null, _) => "-".to_owned(),
            (Value::String(text), _) => text.clone(),
            (bytes, "memory" | "disk" | "shm") => bytes.as_u64().map(size).unwrap_or_default(),
            (other, _) => other.to_string(),
        });
        table.row([of.clone(), what.clone(), left, right]);
    }
    let mut lines = if differences.is_empty() { String::new() } else { table.render() };
    let instances = count(keys.same, "instance");
    if keys.different.is_empty() {
        let nothing = if differences.is_empty() { "nothing differs" } else { "nothing else differs" };
        lines += &format!("{nothing}: {instances} with the same key in both");
    } else {
        let named = keys.different.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = keys.different.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines += &format!(
            "{instances} with the same key in both; these have another, and share no results: {named}{more} (their environment is another thing there)"
        );
    }
    if keys.unknown > 0 {
        lines += &format!("; {} whose key is known later, or that have none", keys.unknown);
    }
    lines + "\n"
}
