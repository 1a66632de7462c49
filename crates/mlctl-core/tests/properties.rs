//! Whatever is written, the parser answers; what it reads, it can write; and it points at the right place.

use mlctl_core::condition::{self, Lookup};
use mlctl_core::diag::{Source, render};
use mlctl_core::params;
use mlctl_core::spec;
use mlctl_core::template::{Piece, Template};
use mlctl_core::value::{Type, Value};
use proptest::prelude::*;

const SPECS: [&str; 2] = [include_str!("spec/good/example.toml"), include_str!("spec/good/everything.toml")];

/// Words that mean something in a spec, and characters that end or begin something.
const WORDS: [&str; 40] = [
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "{",
    "}",
    "{{",
    "}}",
    "=",
    ".",
    ",",
    "\n",
    "\\",
    "\\u0041",
    "#",
    "*",
    "/",
    "..",
    "é",
    "\u{0}",
    "\u{7f}",
    "params.",
    "matrix",
    "[steps.a]",
    "[params]",
    "inputs.x = ",
    "outputs.x = {}",
    "when = \"",
    "true",
    "1e400",
    "-1",
    "nan",
    "1979-05-27",
    "train",
    "split.parts",
    "[*]",
    "[depth=2]",
    "not ",
    " and ",
];

fn source(text: String) -> Source {
    Source { name: "mlctl.toml".to_owned(), text }
}

/// Parses, and checks what must hold of any answer.
fn answer(text: String) -> Result<(), TestCaseError> {
    let source = source(text);
    let diags = match spec::parse(&source) {
        Ok(parsed) => parsed.warnings,
        Err(diags) => {
            prop_assert!(!diags.is_empty());
            diags
        }
    };
    for diag in &diags {
        prop_assert_ne!(diag.code, "internal", "{}", source.text);
        for span in diag.related.iter().map(|(span, _)| *span).chain([diag.span]) {
            prop_assert!(source.text.get(span.range()).is_some(), "{:?} points to {:?}", diag, span);
        }
    }
    render(&source, &diags, true);
    Ok(())
}

/// A change at one place: the start as a fraction of the text, how much is removed, and what is put there.
fn change() -> impl Strategy<Value = (f64, usize, String)> {
    let word = prop_oneof![
        3 => proptest::sample::select(WORDS.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,3}",
        1 => Just(String::new()),
    ];
    (0.0..1.0, 0_usize..20, word)
}

fn changed(text: &str, changes: &[(f64, usize, String)]) -> String {
    let mut text = text.to_owned();
    for (at, removed, put) in changes {
        let start = text.floor_char_boundary((text.len() as f64 * at) as usize);
        let end = text.ceil_char_boundary((start + removed).min(text.len()));
        text.replace_range(start..end, put);
    }
    text
}

/// The lines in another order, some of them twice.
fn shuffled(text: &str, order: &[prop::sample::Index]) -> String {
    let lines: Vec<_> = text.lines().collect();
    let picked = order.iter().map(|index| lines[index.index(lines.len())]);
    lines.iter().copied().chain(picked).collect::<Vec<_>>().join("\n")
}

fn piece() -> impl Strategy<Value = Piece> {
    let name = "[a-z][a-z0-9_]{0,5}";
    prop_oneof![
        4 => "[{}a é.\\\\\"\n]{1,8}".prop_map(Piece::Text),
        1 => name.prop_map(Piece::Param),
        1 => name.prop_map(Piece::Matrix),
        1 => name.prop_map(Piece::Input),
        1 => name.prop_map(Piece::Output),
        1 => Just(Piece::RunId),
        1 => Just(Piece::RunStatus),
    ]
}

/// Text next to text is one text.
fn joined(pieces: Vec<Piece>) -> Template {
    let mut template: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (template.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
            (_, piece) => template.push(piece),
        }
    }
    Template(template)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_specs_are_answered(spec in proptest::sample::select(SPECS.to_vec()), changes in prop::collection::vec(change(), 1..6)) {
        answer(changed(spec, &changes))?;
    }

    #[test]
    fn shuffled_specs_are_answered(
        spec in proptest::sample::select(SPECS.to_vec()),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        answer(shuffled(spec, &order))?;
    }

    #[test]
    fn rubbish_is_answered(words in prop::collection::vec(proptest::sample::select(WORDS.to_vec()), 0..40), text in "\\PC{0,40}") {
        answer(words.concat())?;
        answer(text)?;
    }

    #[test]
    fn conditions_are_answered(
        words in prop::collection::vec(proptest::sample::select(vec![
            "a.v", "a.s", "params.n", "params.b", "matrix.d", "run.status", "(", ")", "not ", " and ", " or ", " == ", " < ", " != ",
            "1", "-2.5", "'x'", "true", "a[d=1].v", "é", "=",
        ]), 1..12),
    ) {
        let head = "[project]\nname = 'p'\n[params]\nn = 1\nb = true\n[steps.a]\ncommand = ['a']\noutputs.v.type = 'int'\noutputs.s.type = 'string'\n";
        let step = format!("[steps.b]\nmatrix.d = [1, 2]\ncommand = ['b']\nwhen = \"\"\"{}\"\"\"\n", words.concat());
        let source = source(format!("{head}{step}"));
        answer(source.text.clone())?;
        // What is accepted has a truth value: types were checked.
        if let Ok(parsed) = spec::parse(&source) {
            let when = parsed.workflow.steps[1].when.as_ref().expect("the condition");
            let lookup: Lookup<'_> = &|leaf| match leaf {
                mlctl_core::workflow::Expr::Output(index) => {
                    let output = &parsed.workflow.steps[0].outputs[when.refs[*index].output];
                    Some(if output.name == "v" { Value::Int(1) } else { Value::String("x".to_owned()) })
                }
                mlctl_core::workflow::Expr::Param(name) if name == "b" => Some(Value::Bool(true)),
                _ => Some(Value::Int(2)),
            };
            prop_assert!(condition::eval(&when.expr, lookup).is_ok(), "{}", source.text);
            let folded = condition::fold(&when.expr, &|_| None);
            prop_assert!(folded.is_ok());
            let folded = folded.unwrap_or_else(|_| when.expr.clone());
            prop_assert_eq!(condition::eval(&folded, lookup), condition::eval(&when.expr, lookup));
        }
    }

    #[test]
    fn a_template_that_is_written_is_read_back(pieces in prop::collection::vec(piece(), 0..8)) {
        let template = joined(pieces);
        let text = template.to_string();
        prop_assert_eq!(Template::parse(&text), Ok(template), "{}", text);
    }

    #[test]
    fn a_template_that_is_read_is_written_back(text in "(\\{|\\}|\\{\\{ params\\.a \\}\\}|\\{\\{\\{\\{|x| ){0,12}") {
        if let Ok(template) = Template::parse(&text) {
            prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
        }
    }

    #[test]
    fn errors_point_into_strings_however_they_are_written(before in "[a-z é\t\"'\\\\\n\u{1F600}\u{85}]{0,12}", after in "[a\"\\\\ \n]{0,6}", multiline: bool) {
        let text = format!("{before}{{{{ params.nope }}}}{after}");
        let mut escaped = String::new();
        for c in text.chars() {
            match c {
                '"' => escaped.push_str("\\\""),
                '\\' => escaped.push_str("\\\\"),
                '\n' if multiline => escaped.push_str("\\n\\\n   "),
                '\n' => escaped.push_str("\\u000A"),
                '\u{1F600}' => escaped.push_str("\\U0001F600"),
                'é' if multiline => escaped.push_str("\\xe9"),
                c => escaped.push(c),
            }
        }
        let literal = if multiline { format!("\"\"\"\n{escaped}\"\"\"") } else { format!("\"{escaped}\"") };
        let source = source(format!("[project]\nname = 'p'\n[steps.a]\ncommand = ['a', {literal}]\n"));
        let diags = spec::parse(&source).expect_err("there is no such param");
        prop_assert_eq!(diags.len(), 1);
        prop_assert_eq!(source.text.get(diags[0].span.range()), Some("params.nope"), "{}", source.text);
    }

    #[test]
    fn the_text_of_a_param_is_read_as_the_same_value(int: i64, float in proptest::num::f64::NORMAL, text in "\\PC*", list in prop::collection::vec(any::<i64>(), 0..4)) {
        let list = Value::Json(serde_json::json!(list));
        for (value, ty) in [(Value::Int(int), Type::Int), (Value::Float(float), Type::Float), (Value::String(text), Type::String), (list, Type::List)] {
            prop_assert_eq!(params::read(&value.to_string(), ty), Ok(value));
        }
    }
}
