//! What a run would do now: the plan against the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mlctl_core::action::{ActionResult, Artifact};
use mlctl_core::digest::Digest;
use mlctl_core::forecast::{Forecast, Known, Outlook, forecast};
use mlctl_core::plan::Plan;
use mlctl_core::scheduler::Facts;
use mlctl_core::workflow::EnvironmentKind;
use mlctl_exec::sources::Inputs;
use mlctl_exec::store::Store;

use crate::config::Context;
use crate::engine::{Engine, argo};
use crate::environment::{self, Known as Locked, Target};
use crate::error::CommandError;
use crate::image::{Builder, check};
use crate::lock::{self, Lock, Mode, Wanted};
use crate::prepare::{self, Asked, Files, Trees};
use crate::record::UsedEnvironment;
use crate::session::{self, Project, Session};

/// What is stored here.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    /// Results.
    pub(crate) store: &'a Store,
    /// The project's files.
    pub(crate) inputs: &'a Inputs,
    /// Whether what is asked for of the project's files goes into the store.
    pub(crate) keeps: bool,
}

impl Known for Stored<'_> {
    fn result(&mut self, key: &Digest) -> Option<Arc<ActionResult>> {
        self.store.lookup(key).map(|entry| entry.result)
    }

    fn entries(&mut self, directory: &Artifact) -> Result<Vec<String>, String> {
        self.store.entries(directory).map_err(|error| error.to_string())
    }

    fn entry(&mut self, directory: &Artifact, path: &str) -> Result<Artifact, String> {
        self.store.sub(directory, path).map_err(|error| error.to_string())
    }

    fn file(&mut self, path: &str) -> Result<Artifact, String> {
        let found = if self.keeps { self.inputs.put(path, self.store) } else { self.inputs.digest(path) };
        found.map_err(|error| error.to_string())
    }
}

/// What a run would do now, and with what.
pub(crate) struct Looked {
    /// What it would do.
    pub(crate) forecast: Forecast,
    /// The sources that it would use.
    pub(crate) trees: Trees,
    /// What its environments are, as far as that is known.
    pub(crate) environments: Vec<UsedEnvironment>,
}

/// What a run would do now. Writes nothing but caches, reaches no network: an environment
/// that is not locked yet has no realisation, and its steps no key. `locked` makes that an error.
pub(crate) fn of(session: &Session, asked: &Asked, locked: bool) -> Result<Looked, CommandError> {
    let project = session.project()?;
    session.ui.warnings(&project.source, &project.warnings);
    let context = session.context(&project)?;
    let store = session::open_store()?;
    let Outset { plan, facts, files, trees, environments, engine } =
        outset(session, (&project, &context), &store, asked, locked)?;
    let known: &mut dyn Known = if matches!(engine, Engine::Argo(_)) && !argo::shares_store(&context, store.root()) {
        &mut argo::Elsewhere(&files.inputs)
    } else {
        &mut Stored { store: &store, inputs: &files.inputs, keeps: false }
    };
    Ok(Looked { forecast: forecast(plan, facts, known), trees, environments })
}

/// What a forecast begins with.
pub(crate) struct Outset {
    /// What is asked for.
    pub(crate) plan: Plan,
    /// What is known before anything is looked up.
    pub(crate) facts: Facts,
    /// The project's files.
    pub(crate) files: Files,
    /// The sources of the steps.
    pub(crate) trees: Trees,
    /// What the environments are, as far as that is known.
    pub(crate) environments: Vec<UsedEnvironment>,
    /// What would run it.
    pub(crate) engine: Engine,
}

/// The beginning of [`of`].
pub(crate) fn outset(
    session: &Session,
    (project, context): (&Project, &Context),
    store: &Store,
    asked: &Asked,
    locked: bool,
) -> Result<Outset, CommandError> {
    let plan = prepare::plan(project, context, asked)?;
    prepare::warn_of_idle_force(&session.ui, &plan);
    let engine = Engine::at_hand(context)?;
    prepare::check_capabilities(project, (context, &engine), &plan)?;
    let files = Files::look(&project.root)?;
    let inputs = prepare::inputs(project, &plan, |path| files.inputs.digest(path))?;
    let trees = prepare::sources(project, &plan, &files)?;
    session.ui.warnings(&project.source, &prepare::unmatched_sources(&plan, &trees));
    files.save();
    let target = engine.target(project, context);
    let of = lock::Project::of(project, store, &target);
    let wanted = Wanted::by(prepare::steps(&plan));
    check::files(project, wanted.environments.iter().copied())?;
    if locked {
        lock::ensure(of, &wanted, Mode::Frozen, &|_| {})?;
    }
    let lock = Lock::read(&project.root)?;
    let is_current = |name: &&str| {
        let wanted = Wanted { environments: BTreeSet::from([*name]), ..Wanted::default() };
        lock::ensure(of, &wanted, Mode::Frozen, &|_| {}).is_ok()
    };
    let names: Vec<&str> = wanted.environments.iter().copied().filter(is_current).collect();
    let built = built(project, context, (&lock, &target, store), names.iter().copied())?;
    let known = Locked { lock: &lock, target: &target, built: &built };
    let realisations = environment::realisations(&project.workflow, &project.source, &known, names)?;
    let facts = prepare::facts((project, context, &plan), &target, &trees, &realisations, inputs, &lock)?;
    let environments = realisations.values().map(|realisation| realisation.used(None)).collect();
    Ok(Outset { plan, facts, files, trees, environments, engine })
}

/// The environments in which something would run now: only these must be ready. `None`: steps without one would.
pub(crate) fn environments_that_run(plan: &Plan, facts: &Facts, known: &mut Stored<'_>) -> BTreeSet<Option<String>> {
    environments_of(&forecast(plan.clone(), facts.clone(), known))
}

/// The same, of a forecast that is there.
pub(crate) fn environments_of(forecast: &Forecast) -> BTreeSet<Option<String>> {
    let running = forecast.iter().filter(|(_, outlook)| matches!(outlook, Outlook::Runs(_)));
    running.map(|(instance, _)| instance.step().environment.clone()).collect()
}

/// The ids of images built from Dockerfiles, by environment, as this machine remembers them.
fn built<'a>(
    project: &Project,
    context: &Context,
    (lock, target, store): (&Lock, &Target, &Store),
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>, CommandError> {
    let mut built = BTreeMap::new();
    let is_built = |name: &&str| {
        let environment = project.workflow.environments.get(*name);
        environment.is_some_and(|environment| matches!(environment.kind, EnvironmentKind::Build(_)))
    };
    for name in names.filter(is_built) {
        let id = Builder::remembered(name, (project, context, lock), store.root(), &target.platform)?;
        built.extend(id.map(|id| (name.to_owned(), id)));
    }
    Ok(built)
}
