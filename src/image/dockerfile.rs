//! Where things stand in a Dockerfile. It is the daemon that reads it; here only places are looked for, so that what fails
//! can be shown at its line.

use mlctl_core::diag::Span;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instruction {
    /// `RUN`, in capitals.
    pub(super) keyword: String,
    /// The whole of it, on one line, as BuildKit names a step.
    pub(super) text: String,
    /// Its lines.
    pub(super) span: Span,
    /// The stage that it is in, from 0; what stands before the first is in none.
    pub(super) stage: Option<usize>,
}

/// The instructions of a Dockerfile, as far as they can be told apart.
pub(super) fn instructions(text: &str) -> Vec<Instruction> {
    let escape = escape(text);
    let mut all: Vec<Instruction> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut stage = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        let body = line.trim();
        let first = start + (line.len() - line.trim_start().len());
        start += line.len();
        // Comments and empty lines may stand between the lines of an instruction.
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        let (from, mut joined) = open.take().unwrap_or((first, String::new()));
        let goes_on = body.strip_suffix(escape);
        // What BuildKit joins keeps the blanks of the next line.
        joined += goes_on.unwrap_or(if joined.is_empty() { body } else { line.trim_end() });
        if goes_on.is_some() {
            open = Some((from, joined));
            continue;
        }
        all.push(instruction(joined, Span::from(from..end), &mut stage));
    }
    if let Some((from, joined)) = open {
        all.push(instruction(joined, Span::from(from..text.trim_end().len()), &mut stage));
    }
    all
}

fn instruction(text: String, span: Span, stage: &mut Option<usize>) -> Instruction {
    let keyword = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if keyword == "FROM" {
        *stage = Some(stage.map_or(0, |stage| stage + 1));
    }
    Instruction { keyword, text, span, stage: *stage }
}

/// The character that a line goes on with: a directive may choose another.
fn escape(text: &str) -> char {
    directive(text, "escape").and_then(|value| value.chars().next()).unwrap_or('\\')
}

/// What a line `# name=value` at the top says.
fn directive<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().map_while(|line| line.trim().strip_prefix('#'));
    let mut found = lines.filter_map(|line| line.split_once('=')).filter(|(known, _)| known.trim() == name);
    found.next().map(|(_, value)| value.trim())
}

/// The build arguments that a Dockerfile takes.
pub(super) struct Args {
    declared: Vec<String>,
    /// It is in a language of which nothing is known here.
    foreign: bool,
}

/// What `ARG` declares, in any stage.
pub(super) fn args(text: &str) -> Args {
    let all = instructions(text);
    let words = all.iter().filter(|one| one.keyword == "ARG").flat_map(|one| one.text.split_whitespace().skip(1));
    let declared = words.map(|word| word.split('=').next().unwrap_or(word).to_owned()).collect();
    Args { declared, foreign: directive(text, "syntax").is_some_and(|frontend| !frontend.contains("dockerfile")) }
}

impl Args {
    /// Whether this one is taken. Some are without being declared.
    pub(super) fn takes(&self, name: &str) -> bool {
        const PREDEFINED: [&str; 10] = [
            "BUILDPLATFORM",
            "BUILDOS",
            "BUILDARCH",
            "BUILDVARIANT",
            "TARGETPLATFORM",
            "TARGETOS",
            "TARGETARCH",
            "TARGETVARIANT",
            "TARGETSTAGE",
            "SOURCE_DATE_EPOCH",
        ];
        const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];
        let of_builder = PREDEFINED.contains(&name) || name.starts_with("BUILDKIT_");
        let is_declared = self.declared.iter().any(|declared| declared == name);
        self.foreign || is_declared || of_builder || PROXIES.contains(&&*name.to_ascii_lowercase())
    }
}

/// The step that BuildKit calls `name`: `[stage 2/4] RUN false`, `[2/4] RUN false`, or of the classic builder.
pub(super) fn step<'a>(all: &'a [Instruction], name: &str) -> Option<&'a Instruction> {
    if let Some(image) = name.strip_prefix("[internal] load metadata for ").or_else(|| name.strip_prefix("FROM ")) {
        return from(all, image);
    }
    let (place, text) = name.strip_prefix('[')?.split_once("] ")?;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let wanted = words(text);
    let same: Vec<&Instruction> = all.iter().filter(|one| words(&one.text) == wanted).collect();
    if let [one] = same.as_slice() {
        return Some(one);
    }
    // The same twice, or with variables put in: the number says which.
    let (stage, number) = place.rsplit_once(' ').map_or((None, place), |(stage, number)| (Some(stage), number));
    let number: usize = number.split_once('/')?.0.trim().parse().ok()?;
    let stages = all.iter().filter(|one| one.keyword == "FROM");
    let named = stages.enumerate().filter(|(at, one)| match stage {
        Some(stage) => {
            stage == format!("stage-{at}")
                || words(&one.text).last().is_some_and(|name| name.eq_ignore_ascii_case(stage))
        }
        None => true,
    });
    let stage = named.last().map(|(at, _)| at)?;
    // Those that make a layer are counted.
    let layers = ["FROM", "RUN", "COPY", "ADD", "WORKDIR"];
    let mut counted = all.iter().filter(|one| one.stage == Some(stage) && layers.contains(&one.keyword.as_str()));
    let keyword = wanted.first()?.to_ascii_uppercase();
    counted.nth(number.checked_sub(1)?).filter(|one| one.keyword == keyword)
}

/// The images that stages begin with.
pub(super) fn images(all: &[Instruction]) -> Vec<String> {
    all.iter().filter(|one| one.keyword == "FROM").filter_map(base).map(str::to_owned).collect()
}

/// The image of a `FROM`.
fn base(from: &Instruction) -> Option<&str> {
    from.text.split_whitespace().skip(1).find(|word| !word.starts_with("--"))
}

/// The line that names an image.
fn from<'a>(all: &'a [Instruction], image: &str) -> Option<&'a Instruction> {
    let short = |image: &str| {
        let image = image.split('@').next().unwrap_or(image);
        let image =
            ["docker.io/library/", "docker.io/"].iter().find_map(|hub| image.strip_prefix(hub)).unwrap_or(image);
        image.strip_suffix(":latest").unwrap_or(image).to_owned()
    };
    let wanted = short(image.split_whitespace().next().unwrap_or_default());
    let names = |one: &&Instruction| match one.keyword.as_str() {
        "FROM" => base(one).is_some_and(|word| short(word) == wanted),
        // `--from=` and `--mount=...,from=`
        _ => one.text.split([' ', '\t', '=', ',']).any(|word| !word.is_empty() && short(word) == wanted),
    };
    all.iter().find(names)
}

/// The line with this number, from 1: its text without blanks around.
pub(super) fn line(text: &str, number: usize) -> Option<Span> {
    let mut start = 0;
    for (at, line) in text.split_inclusive('\n').enumerate() {
        if at + 1 == number {
            let first = start + (line.len() - line.trim_start().len());
            return Some(Span::from(first..(start + line.trim_end().len()).max(first)));
        }
        start += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\nARG V=1\nFROM busybox:$V AS base\nRUN echo one && \\\n    # why\n  echo two\n\
                        WORKDIR /x\n\nFROM base\nCOPY --from=alpine a b\nRUN echo $V\nRUN echo again\nRUN echo again\n";

    fn shown(name: &str) -> Option<&'static str> {
        step(&instructions(TEXT), name).map(|one| &TEXT[one.span.range()])
    }

    #[test]
    fn a_step_is_found_by_its_text_or_by_its_number() {
        let two = "RUN echo one && \\\n    # why\n  echo two";
        assert_eq!(shown("[base 2/3] RUN echo one &&   echo two"), Some(two));
        assert_eq!(shown("[base 3/3] WORKDIR /x"), Some("WORKDIR /x"));
        assert_eq!(shown("[stage-1 3/5] RUN echo 1"), Some("RUN echo $V"));
        assert_eq!(shown("[stage-1 5/5] RUN echo again"), Some("RUN echo again"));
        let again = instructions(TEXT);
        assert_eq!(step(&again, "[stage-1 5/5] RUN echo again"), again.last());
        assert_eq!(shown("[stage-1 9/9] RUN nothing like it"), None);
        assert_eq!(shown("exporting to image"), None);
    }

    #[test]
    fn an_image_is_found_where_it_is_named() {
        assert_eq!(
            shown("[internal] load metadata for docker.io/library/alpine:latest"),
            Some("COPY --from=alpine a b")
        );
        assert_eq!(shown("FROM docker.io/library/base:latest"), Some("FROM base"));
        let text = "FROM ghcr.io/acme/train:1@sha256:00 AS x\n";
        assert!(step(&instructions(text), "[internal] load metadata for ghcr.io/acme/train:1").is_some());
    }

    #[test]
    fn another_escape_and_an_end_in_the_middle() {
        let all = instructions("# escape=`\nFROM a\nRUN x `\n y\\\nRUN z `");
        let texts: Vec<&str> = all.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts, ["FROM a", "RUN x  y\\", "RUN z "]);
        assert!(instructions("").is_empty());
    }

    #[test]
    fn arguments_are_taken_where_they_are_declared() {
        let taken = args("ARG BASE=busybox\nFROM $BASE\nARG ONE TWO=2 \\\n  THREE\nRUN echo ARG FOUR\n");
        for name in ["BASE", "ONE", "TWO", "THREE", "HTTPS_PROXY", "no_proxy", "BUILDKIT_INLINE_CACHE", "TARGETARCH"] {
            assert!(taken.takes(name), "{name}");
        }
        assert!(!["FOUR", "one", "$BASE", ""].iter().any(|name| taken.takes(name)));
        assert!(args("# syntax=acme/other:1\nlet x\n").takes("X"));
        assert!(!args("# syntax=docker/dockerfile:1\nFROM x\n").takes("X"));
    }

    #[test]
    fn lines_count_from_one() {
        assert_eq!(line(TEXT, 2).map(|span| &TEXT[span.range()]), Some("ARG V=1"));
        assert_eq!(line(TEXT, 6).map(|span| &TEXT[span.range()]), Some("echo two"));
        assert_eq!(line(TEXT, 99), None);
    }
}
