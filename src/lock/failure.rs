//! What resolvers say when they fail, for people.

/// What a resolver's output comes down to.
pub(super) fn reason(output: &str) -> String {
    const NETWORK: [&str; 5] =
        ["Retrying (Retry(", "Failed to fetch", "error sending request", "dns error", "Could not connect"];
    const CONFLICT: [&str; 3] = ["ResolutionImpossible", "conflicting dependencies", "requirements are unsatisfiable"];
    let has = |marks: &[&str]| marks.iter().any(|mark| output.contains(mark));
    if has(&NETWORK) {
        return "the package index cannot be reached".to_owned();
    }
    if let Some(what) = output.lines().find_map(missing) {
        return format!("there is no `{what}` for this Python and platform");
    }
    if has(&CONFLICT) {
        return "the requirements contradict each other".to_owned();
    }
    "the resolver failed".to_owned()
}

/// What a line says is not to be had.
fn missing(line: &str) -> Option<&str> {
    // pip
    if let Some((_, what)) = line.split_once("No matching distribution found for ") {
        return Some(what.split(" (from ").next().unwrap_or(what).trim());
    }
    // uv, if that alone is the reason
    let (_, because) = line.split_once("Because ")?;
    let (what, rest) = match because.strip_prefix("there is no version of ") {
        Some(what) => what.split_once(" and you require ")?,
        None => because.split_once(" was not found in the ")?,
    };
    rest.contains("unsatisfiable").then(|| what.trim())
}

/// The output without the temporary file's name: a reference to its line becomes that line.
pub(super) fn readable(output: &str, file: &str, lines: &[String]) -> String {
    let mut text = output.to_owned();
    // The last lines first: "(line 12" must not be taken for "(line 1".
    for (index, line) in lines.iter().enumerate().rev() {
        let number = index + 1;
        text = text.replace(&format!("-r {file} (line {number})"), line);
        text = text.replace(&format!("line {number} of {file}"), "what is asked for");
    }
    text.replace(file, "the requirements")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_in_a_few_words() {
        let uv = "error: No solution found when resolving dependencies\n  cause: Because ";
        for (output, expected) in [
            ("ERROR: No matching distribution found for six==99 (from x)\n".to_owned(), "there is no `six==99`"),
            (
                format!(
                    "{uv}there is no version of six==99 and you require six==99, we can conclude that your requirements are unsatisfiable."
                ),
                "there is no `six==99`",
            ),
            (
                format!(
                    "{uv}zzz was not found in the package registry and you require zzz, we can conclude that your requirements are unsatisfiable."
                ),
                "there is no `zzz`",
            ),
            (
                format!(
                    "{uv}a==1 depends on b>=2 and you require a==1, we can conclude that you require b>=2.\n And because you require b<1, we can conclude that your requirements are unsatisfiable."
                ),
                "the requirements contradict",
            ),
            ("ERROR: ResolutionImpossible: for help".to_owned(), "the requirements contradict"),
            (
                "WARNING: Retrying (Retry(total=0\nERROR: No matching distribution found for six".to_owned(),
                "the package index",
            ),
            ("Traceback".to_owned(), "the resolver failed"),
        ] {
            let found = reason(&output);
            assert!(found.starts_with(expected), "{found}: {output}");
        }
    }

    #[test]
    fn a_reference_to_a_line_becomes_the_line() {
        let lines: Vec<String> = (1..=12).map(|n| format!("d{n}==1")).collect();
        let output =
            "Cannot install -r /t/r.txt (line 1) and -r /t/r.txt (line 12)\nInvalid 'x' (from line 2 of /t/r.txt)";
        assert_eq!(
            readable(output, "/t/r.txt", &lines),
            "Cannot install d1==1 and d12==1\nInvalid 'x' (from what is asked for)"
        );
    }
}
