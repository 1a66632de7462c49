//! Units: what an engine is given of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mlctl_core::condition::eval;
use mlctl_core::context::{ContextLayer, StepPlacement};
use mlctl_core::event::{Event, Status};
use mlctl_core::graph::{Dep, InstanceIx, Members};
use mlctl_core::plan::{Plan, Request, plan};
use mlctl_core::units::{Cutting, Holds, Report, Rows, Unit, UnitIx, units};
use mlctl_core::workflow::{Expr, StepIx, Workflow};

use super::chance::Chance;
use super::flow::planned;
use super::oracle::{End, ends};
use super::random::workflow;
use super::world::{Mishaps, Nature, run};

const SEEDS: u64 = 3000;

fn all(plan: &Plan) -> Vec<Unit> {
    units(plan, &Cutting::of(&ContextLayer::default()), &|_| false)
}

/// Units in a line each: what they run, `<` what they wait for, `?` what must hold, `!` what they report.
fn shown(plan: &Plan, units: &[Unit]) -> String {
    let name = |step: StepIx| plan.step(step).name.clone();
    let of = |unit: UnitIx| name(units[unit.0 as usize].first());
    let line = |unit: &Unit| {
        let steps: Vec<String> = unit.steps.iter().map(|step| name(*step)).collect();
        let mut line = steps.join("+");
        match &unit.rows {
            Rows::Known { rows, .. } if *rows == [0] => {}
            Rows::Known { rows, pods } => line += &format!("{rows:?} by {pods}"),
            Rows::Dynamic { count: None } => line += "[any]",
            Rows::Dynamic { count: Some((unit, place)) } => line += &format!("[{}.{place}]", of(*unit)),
        }
        for after in &unit.after {
            let though = [(after.though_failed, " failed"), (after.though_not_started, " not-started")];
            let though: String = though.iter().filter(|(though, _)| *though).map(|(_, word)| *word).collect();
            line += &format!(" < {}{though}", of(after.unit));
        }
        if let Some(when) = &unit.when {
            line += &format!(" ? {}", holds(when, &of));
        }
        for report in &unit.reports {
            line += &match report {
                Report::Made => " ! made".to_owned(),
                Report::Condition { of, .. } => format!(" ! when {}", name(*of)),
                Report::Pods { of } => format!(" ! pods {}", name(*of)),
            };
        }
        line + if unit.finally { " finally" } else { "" } + "\n"
    };
    units.iter().map(line).collect()
}

fn holds(when: &Holds, of: &dyn Fn(UnitIx) -> String) -> String {
    match when {
        Holds::Report(unit, place) => format!("{}.{place}", of(*unit)),
        Holds::Not(one) => format!("!{}", holds(one, of)),
        Holds::And(left, right) => format!("({} && {})", holds(left, of), holds(right, of)),
        Holds::Or(left, right) => format!("({} || {})", holds(left, of), holds(right, of)),
    }
}

fn cut(spec: &str) -> String {
    let plan = planned(spec, &[]);
    shown(&plan, &all(&plan))
}

#[test]
fn a_linear_chain_of_steps_that_need_the_same_is_one_unit() {
    let spec = r#"
        steps.a = { command = ["c"], outputs.o = {} }
        steps.b = { command = ["c"], inputs.o = "a.o", outputs.o = {} }
        steps.c = { command = ["c"], inputs.o = "b.o", outputs.o = {}, resources = { gpu = 1 } }
        steps.d = { command = ["c"], needs = ["c"], resources = { gpu = 1 } }
        steps.e = { command = ["c"], inputs.o = "c.o", needs = ["d"], secrets = ["S"], resources = { gpu = 1 } }
        "#;
    // `c` has two that need it.
    assert_eq!(cut(spec), "a+b\nc < a\nd < c not-started\ne < c < d not-started\n");
    let context = ContextLayer {
        steps: BTreeMap::from([(
            "b".to_owned(),
            StepPlacement { node_selector: BTreeMap::from([("disk".into(), "ssd".into())]), ..Default::default() },
        )]),
        ..ContextLayer::default()
    };
    let plan = planned(spec, &["b"]);
    assert_eq!(shown(&plan, &units(&plan, &Cutting::of(&context), &|_| false)), "a\nb < a\n");
    let apart = ContextLayer { chains: Some(false), ..ContextLayer::default() };
    assert_eq!(shown(&plan, &units(&plan, &Cutting::of(&apart), &|_| false)), "a\nb < a\n");
}

#[test]
fn fan_outs_are_dealt_to_pods_and_chains_of_them_with_them() {
    let spec = r#"
        steps.a = { command = ["c"], matrix.x = [1, 2, 3], outputs.o = {} }
        steps.b = { command = ["c"], matrix = "a", inputs.o = "a.o", outputs.o = {} }
        steps.c = { command = ["c"], inputs.o = "b[*].o" }
        steps.d = { command = ["c"], matrix.x = [1, 2], inputs.o = "b.o" }
        "#;
    let plan = planned(spec, &[]);
    let two = ContextLayer { pods: Some(2), ..ContextLayer::default() };
    let cutting = Cutting::of(&two);
    assert_eq!(
        shown(&plan, &units(&plan, &cutting, &|_| false)),
        "a+b[0, 1, 2] by 2\nc < a\nd[0, 1] by 2 < a failed\n"
    );
    let each = Cutting { workers: false, ..cutting };
    let known = |ix: InstanceIx| ["a@x=1", "b@x=1", "a@x=2"].contains(&plan.graph.id(ix).as_str());
    // Of `d`, what needs `b@x=1` can run whatever becomes of the rest.
    assert_eq!(
        shown(&plan, &units(&plan, &each, &known)),
        "a+b[1, 2] by 2\nc < a not-started\nd[0, 1] by 2 < a failed not-started\n"
    );
}

#[test]
fn conditions_are_decided_by_whoever_makes_the_values() {
    let spec = r#"
        params.kind = "x"
        steps.a = { command = ["c"], outputs = { n = { type = "int" }, m = { type = "int" } } }
        steps.b = { command = ["c"], outputs = { n = { type = "int" }, o = {} } }
        steps.one = { command = ["c"], when = "a.n > 1 and (a.m < 2 or params.kind == 'y')", outputs.o = {} }
        steps.two = { command = ["c"], when = "a.n > 1 and not (b.n > 2)" }
        steps.three = { command = ["c"], when = "a.n > b.n", outputs.o = {} }
        steps.four = { command = ["c"], inputs.o = "three.o", inputs.p = "b.o" }
        steps.join = { command = ["c"], inputs.o = { first = ["one.o", "three.o"] } }
        steps.each = { command = ["c"], matrix.x = [1, 2], when = "a.n > matrix.x" }
        "#;
    assert_eq!(
        cut(spec),
        "a ! when one ! when two\n\
         b ! when two\n\
         one < a ? a.0\n\
         two < a < b ? (a.1 && b.0)\n\
         three < a < b ! made\n\
         four < b < three ? three.0\n\
         join < one not-started < three not-started\n\
         each[0, 1] by 2 < a\n"
    );
}

#[test]
fn dynamic_fan_outs_are_counted_by_whoever_makes_their_axis() {
    let spec = r#"
        steps.a = { command = ["c"], outputs = { l = { type = "json" }, m = { type = "json" } } }
        steps.b = { command = ["c"], outputs = { l = { type = "json" } } }
        steps.one = { command = ["c"], matrix = { x = "a.l", y = "a.m" }, outputs.o = {} }
        steps.two = { command = ["c"], matrix = { x = "a.l", y = "b.l" } }
        steps.same = { command = ["c"], matrix = "one", inputs.o = "one.o" }
        steps.all = { command = ["c"], inputs.o = { from = "one[*].o" } }
        steps.end = { command = ["c"], finally = true }
        "#;
    assert_eq!(
        cut(spec),
        "a ! pods one ! pods same\n\
         b\n\
         one[a.0] < a\n\
         two[any] < a < b\n\
         same[a.1] < a < one failed\n\
         all < one not-started\n\
         end finally\n"
    );
}

/// For each random workflow: its plan, what is to run of it, and its units.
fn each(check: impl Fn(&Workflow, &Plan, &dyn Fn(InstanceIx) -> bool, &[Unit], &BTreeMap<String, End>, Nature)) {
    for seed in 0..SEEDS {
        let workflow = workflow(&mut Chance::new(seed));
        let Ok(plan) = plan(Arc::new(workflow.clone()), BTreeMap::new(), &Request::default()) else { continue };
        let nature = Nature(seed);
        let ends = ends(&workflow, &nature);
        let mut chance = Chance::new(seed ^ 0x5eed);
        let done = if chance.percent(50) { BTreeSet::new() } else { done(&plan, &ends, &mut chance) };
        let ended = |ix: InstanceIx| done.contains(&ix);
        let context = ContextLayer {
            pods: Some(1 + u32::try_from(chance.below(3)).expect("small")),
            workers: Some(chance.percent(80)),
            ..ContextLayer::default()
        };
        let units = units(&plan, &Cutting::of(&context), &ended);
        let checked = || check(&workflow, &plan, &ended, &units, &ends, nature);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(checked))
            .unwrap_or_else(|_| panic!("seed {seed}\n{}", shown(&plan, &units)));
    }
}

/// Instances with a result before the run, as a cache would have them: all that they depend on have one too.
fn done(plan: &Plan, ends: &BTreeMap<String, End>, chance: &mut Chance) -> BTreeSet<InstanceIx> {
    let mut done = BTreeSet::new();
    for ix in plan.instances() {
        let is_done = |dep: &Dep| match dep {
            Dep::Instance(on) => done.contains(on),
            Dep::Group(group) => {
                let group = plan.graph.group(*group);
                !group.open && group.members.iter().all(|member| done.contains(member))
            }
            Dep::None => true,
        };
        let good = !matches!(ends[&plan.graph.id(ix)].status, Status::Failed | Status::Cancelled);
        if good && plan.graph.deps(ix).iter().all(is_done) && chance.percent(60) {
            done.insert(ix);
        }
    }
    done
}

#[test]
fn everything_that_is_to_run_is_in_one_unit_and_units_wait_only_for_earlier_ones() {
    let (chains, reports) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    each(|_, plan, ended, units, _, _| {
        let mut found: BTreeSet<InstanceIx> = BTreeSet::new();
        let mut steps: BTreeSet<StepIx> = BTreeSet::new();
        for (place, unit) in units.iter().enumerate() {
            chains.set(chains.get() + usize::from(unit.steps.len() > 1));
            reports.set(reports.get() + unit.reports.len());
            assert!(unit.after.iter().all(|after| (after.unit.0 as usize) < place));
            assert!(unit.reports.is_empty() || unit.is_single());
            for &step in &unit.steps {
                assert!(steps.insert(step), "a step in two units");
                match (&unit.rows, plan.graph.members(step)) {
                    (Rows::Known { rows, pods }, Members::Known { first, .. }) => {
                        assert!(rows.is_sorted() && *pods >= 1 && *pods as usize <= rows.len());
                        found.extend(rows.iter().map(|row| InstanceIx(first.0 + row)).filter(|ix| !ended(*ix)));
                    }
                    (Rows::Dynamic { .. }, Members::Unknown(placeholder)) => drop(found.insert(placeholder)),
                    other => panic!("{other:?}"),
                }
            }
        }
        let placeholders = plan.needed().filter_map(|step| plan.graph.placeholder(step));
        let wanted: BTreeSet<InstanceIx> = plan.instances().chain(placeholders).filter(|ix| !ended(*ix)).collect();
        assert_eq!(found, wanted);
    });
    assert!(chains.get() > 50 && reports.get() > 1000, "{} chains, {} reports", chains.get(), reports.get());
}

#[test]
fn the_order_of_units_holds_the_order_of_instances() {
    each(|_, plan, ended, units, _, _| {
        let of_step: BTreeMap<StepIx, (usize, usize)> = (0..)
            .zip(units)
            .flat_map(|(ix, unit)| (0..).zip(&unit.steps).map(move |(place, step)| (*step, (ix, place))))
            .collect();
        let mut before: Vec<BTreeSet<usize>> = Vec::new();
        for unit in units {
            let direct = unit.after.iter().map(|after| after.unit.0 as usize);
            before.push(direct.clone().chain(direct.flat_map(|on| before[on].clone())).collect());
        }
        let placeholders = plan.needed().filter_map(|step| plan.graph.placeholder(step));
        for ix in plan.instances().chain(placeholders).filter(|ix| !ended(*ix)) {
            let (unit, place) = of_step[&plan.graph.step(ix)];
            for dep in plan.graph.deps(ix) {
                let on: Vec<InstanceIx> = match *dep {
                    Dep::Instance(on) => vec![on],
                    Dep::Group(group) => {
                        let group = plan.graph.group(group);
                        let open = plan.graph.placeholder(group.step).filter(|_| group.open);
                        group.members.iter().copied().chain(open).collect()
                    }
                    Dep::None => Vec::new(),
                };
                for on in on.into_iter().filter(|on| !ended(*on) && !units[unit].finally) {
                    let (other, earlier) = of_step[&plan.graph.step(on)];
                    let in_order = before[unit].contains(&other) || other == unit && earlier < place;
                    assert!(in_order, "{} does not wait for {}", plan.graph.id(ix), plan.graph.id(on));
                }
            }
        }
    });
}

/// How an engine would see a unit end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    Succeeded,
    Failed,
    NotStarted,
}

/// The instances for which something was run or reused in a run of the whole plan.
fn made(plan: &Plan, nature: Nature) -> BTreeSet<String> {
    let story = run(plan.clone(), nature, &mut Chance::new(nature.0), Mishaps::default(), false, &[]);
    let made = story.events.into_iter().filter_map(|event| match event {
        Event::InstanceFinished { instance, status, attempts, .. } => {
            (attempts > 0 || status == Status::Cached).then_some(instance)
        }
        _ => None,
    });
    made.collect()
}

#[test]
fn an_engine_that_knows_only_units_holds_back_nothing_that_would_run() {
    let held_back = std::cell::Cell::new(0);
    each(|workflow, plan, ended, units, ends, nature| {
        let id_of = |ix: InstanceIx| plan.graph.id(ix);
        let made = made(plan, nature);
        let mut seen: Vec<Seen> = Vec::new();
        for unit in units.iter().filter(|unit| !unit.finally) {
            let mut instances: BTreeMap<&String, Status> = BTreeMap::new();
            for step in &unit.steps {
                let done: BTreeSet<String> =
                    plan.graph.instances_of(*step).filter(|ix| ended(*ix)).map(id_of).collect();
                let of_step = ends.iter().filter(|(id, end)| end.step == step.0 as usize && !done.contains(*id));
                instances.extend(of_step.map(|(id, end)| (id, end.status)));
            }
            let met = unit.after.iter().all(|after| match seen[after.unit.0 as usize] {
                Seen::Succeeded => true,
                Seen::Failed => after.though_failed,
                Seen::NotStarted => after.though_not_started,
            });
            let reported = |unit: UnitIx, place: usize| {
                assert_eq!(seen[unit.0 as usize], Seen::Succeeded, "a report of what did not succeed");
                report(workflow, plan, &units[unit.0 as usize], place, ends, nature)
            };
            let starts = met && unit.when.as_ref().is_none_or(|when| truth(when, &reported));
            if !starts {
                held_back.set(held_back.get() + 1);
                assert!(!instances.keys().any(|id| made.contains(*id)), "{instances:?}");
            }
            seen.push(match starts {
                false => Seen::NotStarted,
                true if instances.values().any(|status| *status == Status::Failed) => Seen::Failed,
                true => Seen::Succeeded,
            });
        }
    });
    assert!(held_back.get() > 1000, "only {} pods were spared", held_back.get());
}

fn truth(when: &Holds, reported: &dyn Fn(UnitIx, usize) -> bool) -> bool {
    match when {
        Holds::Report(unit, place) => reported(*unit, *place),
        Holds::Not(one) => !truth(one, reported),
        Holds::And(left, right) => truth(left, reported) && truth(right, reported),
        Holds::Or(left, right) => truth(left, reported) || truth(right, reported),
    }
}

/// What the pod of a unit would report.
fn report(
    workflow: &Workflow,
    plan: &Plan,
    unit: &Unit,
    place: usize,
    ends: &BTreeMap<String, End>,
    nature: Nature,
) -> bool {
    let Rows::Known { rows, .. } = &unit.rows else { panic!("not single") };
    let last = plan.graph.instances_of(unit.last()).nth(rows[0] as usize).expect("an instance");
    let id = plan.graph.id(last);
    let made = matches!(ends[&id].status, Status::Succeeded | Status::Cached);
    match &unit.reports[place] {
        Report::Made => made,
        Report::Condition { of, part } => {
            let refs = &workflow.steps[of.0 as usize].when.as_ref().expect("a when").refs;
            let value = |name: &Expr| match name {
                Expr::Output(index) => {
                    assert_eq!(refs[*index].step, unit.last());
                    Some(nature.number(&id))
                }
                _ => None,
            };
            made && eval(part, &value).expect("all is known")
        }
        Report::Pods { .. } => panic!("not a boolean"),
    }
}
