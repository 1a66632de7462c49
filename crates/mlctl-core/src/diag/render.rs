//! Diagnostics as text, in the style of rustc.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diag, Severity, Source, Span};

/// More than this many at once help nobody.
const SHOWN: usize = 30;

/// The diagnostics as people read them: each with file, line, column, the line itself, and what to do.
pub fn render(source: &Source, diags: &[Diag], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.term_width(120);
    let mut text = String::new();
    for diag in diags.iter().take(SHOWN) {
        text.push_str(&renderer.render(&report(source, diag)));
        text.push_str("\n\n");
    }
    if diags.len() > SHOWN {
        text.push_str(&format!("... and {} more\n\n", diags.len() - SHOWN));
    }
    text
}

fn report<'a>(source: &'a Source, diag: &'a Diag) -> Vec<Group<'a>> {
    let level = match diag.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    // Only the lines from the first to the last place are looked at: a report on a large file stays cheap.
    let spans = || diag.related.iter().map(|(span, _)| *span).chain([diag.span]);
    let first = line_start(&source.text, spans().map(|span| span.start).min().unwrap_or(0) as usize);
    let last = line_end(&source.text, spans().map(|span| span.end).max().unwrap_or(0) as usize);
    let line = 1 + source.text.as_bytes()[..first].iter().filter(|byte| **byte == b'\n').count();
    let window = &source.text[first..last];
    let place =
        |span: Span| within(window, span.range().start.saturating_sub(first)..span.range().end.saturating_sub(first));

    let mut snippet = Snippet::source(window).line_start(line).path(&source.name);
    for (span, words) in &diag.related {
        snippet = snippet.annotation(labelled(AnnotationKind::Context.span(place(*span)), words));
    }
    snippet = snippet.annotation(labelled(AnnotationKind::Primary.span(place(diag.span)), &diag.label));
    let mut group = level.primary_title(&diag.message).id(diag.code).element(snippet);
    if let Some(help) = &diag.help {
        group = group.element(Level::HELP.message(help));
    }
    vec![group]
}

fn labelled<'a>(annotation: Annotation<'a>, words: &'a str) -> Annotation<'a> {
    if words.is_empty() { annotation } else { annotation.label(words) }
}

/// The range as one that `text` has: inside it, on the borders of characters, and on one line.
fn within(text: &str, range: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(range.start.min(text.len()));
    let end = text.ceil_char_boundary(range.end.clamp(start, text.len()));
    start..text[start..end].find('\n').map_or(end, |length| start + length)
}

fn line_start(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

fn line_end(text: &str, offset: usize) -> usize {
    let offset = offset.min(text.len());
    text.as_bytes()[offset..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |length| offset + length)
}
