//! Texts that some part of the way would spoil: params that Kubernetes or Argo would replace something in, logs that are large,
//! or meant for a terminal.

use super::{Machine, Turn, bed};
use crate::faults::says;

#[test]
fn a_param_of_60_kib_arrives_as_it_is() {
    let Some(cloud) = bed("cloud") else { return };
    let _turn = Turn::beside_others();
    let spec = "[project]\nname = \"texts\"\n[params]\ntext = \"\"\n[steps.one]\ncommand = [\"sh\", \"-c\", 'printf %s \"$1\" > \
                \"$MLCTL_OUTPUT_TEXT\"', \"sh\", \"{{ params.text }}\"]\noutputs.text = {}\n";
    let machine = Machine::new(&cloud, spec);
    let part = "$(MLCTL_POD) $$ {{item}} {{ $(x) \"'\\ \u{e9} {{=1}}\n";
    let text = part.repeat(60 * 1024 / part.len());
    says(&machine.run(&["run", "--param", &format!("text={text}")]), 0, &[]);
    let made = machine.run(&["artifacts", "get", "one.text", "--dest", "-"]);
    assert!(made.code == 0 && made.stdout == text, "{} bytes of {}", made.stdout.len(), text.len());
}

#[test]
fn a_log_of_200_mb_is_stored_whole_and_holds_up_nothing() {
    let Some(kind) = bed("kind") else { return };
    let _turn = Turn::beside_others();
    let spec = "[project]\nname = \"talks\"\n[steps.one]\nscript = 'yes 0123456789abcdefghijklmnopqrstuvwxyz0123456789abc | \
                head -n 4000000'\n[steps.two]\nneeds = [\"one\"]\nscript = 'true'\n";
    let machine = Machine::new(&kind, spec);
    says(&machine.run(&["run", "--quiet"]), 0, &[]);
    let log = machine.run(&["logs", "one"]);
    assert_eq!((log.code, log.stdout.len(), log.stdout.lines().count()), (0, 4_000_000 * 50, 4_000_000));
}

#[test]
fn a_hostile_log_is_kept_and_no_terminal_gets_it() {
    let Some(cloud) = bed("cloud") else { return };
    let _turn = Turn::beside_others();
    // Escape codes, bytes that are no text, a line of 10 MB, no newline at the end.
    let spec = "[project]\nname = \"hostile\"\n[steps.one]\nscript = '''\nprintf '\\033]0;title\\007\\033[2J\\377\\000\\r{{workflow.name}}\\n'\n\
                head -c 10000000 /dev/zero | tr '\\0' x\nprintf '\\nthe end'\n'''\n";
    let machine = Machine::new(&cloud, spec);
    let ended = machine.run(&["run"]);
    says(&ended, 0, &[]);
    assert!(!ended.stderr.contains("\u{1b}]0;") && !ended.stderr.contains("\u{1b}[2J"), "{:.4000}", ended.stderr);
    let log = machine.run(&["logs", "one"]).stdout;
    assert!(log.contains("{{workflow.name}}") && log.ends_with("x\nthe end"), "{} bytes", log.len());
    assert!(log.len() > 10_000_000, "{} bytes", log.len());
}

#[test]
fn what_was_reused_has_the_log_of_the_run_that_made_it() {
    let Some(cloud) = bed("cloud") else { return };
    let _turn = Turn::beside_others();
    let machine = Machine::new(&cloud, "[project]\nname = \"said\"\n[steps.one]\nscript = 'echo said once'\n");
    says(&machine.run(&["run"]), 0, &[]);
    // Of another run nothing need be here yet.
    std::fs::remove_dir_all(machine.project.root().join(".mlctl/reuse")).unwrap_or_default();
    for run in std::fs::read_dir(machine.project.root().join(".mlctl/runs")).unwrap() {
        let logs = run.unwrap().path().join("logs");
        // Beside the runs there is a list of them.
        if logs.is_dir() {
            std::fs::remove_dir_all(&logs).unwrap();
            std::fs::create_dir(logs).unwrap();
        }
    }
    says(&machine.run(&["run"]), 0, &[]);
    let log = machine.run(&["logs", "one"]);
    assert_eq!((log.code, log.stdout.as_str()), (0, "said once\n"), "{log:?}");
}
