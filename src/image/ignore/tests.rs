use super::*;

/// Which of these paths are excluded, asked as a walk does: directories before what is in them.
fn excluded<'a>(patterns: &str, paths: &[&'a str]) -> Vec<&'a str> {
    let rules = Rules::parse(".dockerignore", patterns.as_bytes()).unwrap();
    let is_excluded = |path: &str| {
        let mut parent: Option<Matched> = None;
        let mut excluded = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let (now, matched) = rules.excludes(&path.as_bytes()[..end], parent.as_ref());
            (excluded, parent) = (now, Some(matched));
        }
        excluded
    };
    paths.iter().copied().filter(|path| is_excluded(path)).collect()
}

/// Asserts that of `all`, exactly these are excluded.
#[track_caller]
fn check(patterns: &str, all: &[&str], expected: &[&str]) {
    assert_eq!(excluded(patterns, all), expected, "{patterns:?}");
}

#[test]
fn a_pattern_is_from_the_root_and_covers_what_is_below() {
    check("foo", &["foo", "foo/bar", "sub/foo", "foobar"], &["foo", "foo/bar"]);
    check("/foo/", &["foo", "foo/bar"], &["foo", "foo/bar"]);
    check("*/foo", &["foo", "sub/foo", "a/b/foo"], &["sub/foo"]);
    check("**/foo", &["foo", "sub/foo", "a/b/foo", "xfoo"], &["foo", "sub/foo", "a/b/foo"]);
    check("foo/**", &["foo", "foo/a", "foo/a/b"], &["foo/a", "foo/a/b"]);
    check("a/**/b", &["a/b", "a/x/b", "a/x/y/b", "a/xb"], &["a/b", "a/x/b", "a/x/y/b"]);
    check("**", &["a", "a/b"], &["a", "a/b"]);
}

#[test]
fn what_is_on_a_line() {
    check("#a\n #b", &["a", "#a", "#b"], &["#b"]);
    check("\u{FEFF}a\r\n\t b \u{3000}\r\n", &["a", "b"], &["a", "b"]);
    check("./a/../b//c/", &["a", "b", "b/c"], &["b/c"]);
    check("../a\n/\n.\n/../d", &["a", "b", "d"], &["d"]);
    check("/ a", &["a", " a"], &["a"]);
    check("**\n/!a", &["a", "b"], &["b"]);
    check("**\n!  a", &["a", "b"], &["b"]);
}

#[test]
fn the_last_pattern_that_matches_decides() {
    check(
        "*.md\n!README*.md\nREADME-secret.md",
        &["a.md", "README.md", "README-secret.md"],
        &["a.md", "README-secret.md"],
    );
    check("a\n!a/b", &["a", "a/b", "a/c"], &["a", "a/c"]);
    // Docker does not ask the last pattern of `a`, which is excluded already.
    check("a\n!a/b\na", &["a", "a/b", "a/c"], &["a", "a/c"]);
}

#[test]
fn sets_escapes_and_what_go_makes_of_them() {
    check("[a-c]?", &["aa", "da", "a", "a/"], &["aa"]);
    check("[^a]", &["a", "b", "ab"], &["b"]);
    check("x[^a]y", &["xby", "x/y", "xay"], &["xby", "x/y"]);
    check(r"\*", &["*", "a"], &["*"]);
    check(r"a\!b", &["a!b"], &["a!b"]);
    check(r"\d", &["d", "7"], &["7"]);
    check("**foo", &["foo", "xfoo", "a/xfoo", "foox"], &["foo", "xfoo", "a/xfoo"]);
    check("a.b*", &["a.bc", "axbc"], &["a.bc"]);
    check("a+(b){c}$*", &["a+(b){c}$", "ab"], &["a+(b){c}$"]);
    check("a|b", &["a|b", "a", "b"], &["a|b"]);
    check("a?|b", &["ax", "axx", "b", "xb", "c"], &["ax", "axx", "b", "xb"]);
    check("*é?", &["xéü", "xé"], &["xéü"]);
    check("[[:digit:]]x", &["1x", "ax"], &["1x"]);
    check("**/a*", &["a\nb", "c\nd/a"], &["a\nb"]);
}

#[test]
fn what_is_below_is_looked_at_if_it_may_be_taken_back() {
    let rules = |text: &str| Rules::parse("x", text.as_bytes()).unwrap();
    let plain = rules("a\nb\nc\n!a/x/y\n!b/**");
    assert!(plain.may_except_below(b"a") && plain.may_except_below(b"a/x") && plain.may_except_below(b"b"));
    assert!(!plain.may_except_below(b"c") && !plain.may_except_below(b"a/z") && !plain.may_except_below(b"a/x/yy"));
    assert!(rules("a\n!**/keep").may_except_below(b"a"));
    assert!(!rules("a\nb/c").may_except_below(b"a"));
}

#[test]
fn bad_patterns_are_named_at_their_line() {
    let error = Rules::parse(".dockerignore", b"ok\n[\n# [\n  !\na\\\n[b-a]\n\\q\na*[b").unwrap_err();
    let (source, diags) = &error.diags[0];
    let lines: Vec<_> = diags.iter().map(|diag| &source.text[diag.span.range()]).collect();
    assert_eq!(lines, ["[", "  !", "a\\", "[b-a]", "\\q", "a*[b"]);
    assert_eq!(error.kind.code(), 2);
}

#[test]
fn a_long_name_and_many_stars_take_no_long_time() {
    let pattern = "*a".repeat(60) + "b";
    let name = "a".repeat(250);
    assert_eq!(excluded(&pattern, &[&name]), Vec::<&str>::new());
}
