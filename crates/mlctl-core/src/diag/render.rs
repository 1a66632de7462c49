//! Diagnostics as text, in the style of rustc.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use super::{Diag, Severity, Source, Span};

/// More than this many at once help nobody.
const SHOWN: usize = 30;
/// Longer lines, in bytes, are cut: nobody reads them, and drawing them takes long.
const LONG_LINE: usize = 16 * 1024;

/// The diagnostics as people read them: each with file, line, column, the line itself, and what to do.
pub fn render(source: &Source, diags: &[Diag], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.term_width(120);
    let mut text = String::new();
    for diag in diags.iter().take(SHOWN) {
        let line = line_of(source, diag.span);
        if line.len() <= LONG_LINE {
            text.push_str(&renderer.render(&report(diag, vec![snippet(source, diag).into()])));
        } else {
            let (origin, excerpt) = excerpt(source, diag, line);
            let drawn = renderer.render(&report(diag, vec![origin.into(), excerpt.into()]));
            // The fourth line only says that an excerpt of unknown origin follows.
            let lines = drawn.lines().enumerate().filter(|(index, _)| *index != 3).map(|(_, line)| line);
            text.push_str(&lines.collect::<Vec<_>>().join("\n"));
        }
        text.push_str("\n\n");
    }
    if diags.len() > SHOWN {
        text.push_str(&format!("... and {} more\n\n", diags.len() - SHOWN));
    }
    text
}

fn report<'a>(diag: &'a Diag, places: Vec<Element<'a>>) -> Vec<Group<'a>> {
    let level = match diag.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let group = level.primary_title(&diag.message).id(diag.code).elements(places);
    vec![match &diag.help {
        Some(help) => group.element(Level::HELP.message(help)),
        None => group,
    }]
}

/// The line in which a place begins.
fn line_of(source: &Source, span: Span) -> Range<usize> {
    line_start(&source.text, span.start as usize)..line_end(&source.text, span.start as usize)
}

/// The lines from the first to the last place: a report on a large file stays cheap.
fn snippet<'a>(source: &'a Source, diag: &'a Diag) -> Snippet<'a, Annotation<'a>> {
    let spans = || diag.related.iter().map(|(span, _)| *span).chain([diag.span]);
    let first = line_start(&source.text, spans().map(|span| span.start).min().unwrap_or(0) as usize);
    let last = line_end(&source.text, spans().map(|span| span.end).max().unwrap_or(0) as usize);
    let window = &source.text[first..last];
    let place =
        |span: Span| within(window, span.range().start.saturating_sub(first)..span.range().end.saturating_sub(first));
    let mut snippet = Snippet::source(window).line_start(line_number(source, first)).path(&source.name);
    for (span, words) in &diag.related {
        snippet = snippet.annotation(labelled(AnnotationKind::Context.span(place(*span)), words));
    }
    snippet.annotation(labelled(AnnotationKind::Primary.span(place(diag.span)), &diag.label))
}

/// The surroundings of the place in a line that is too long to be looked at as a whole.
fn excerpt<'a>(source: &'a Source, diag: &'a Diag, line: Range<usize>) -> (Origin<'a>, Snippet<'a, Annotation<'a>>) {
    const AROUND: usize = 60;
    let text = &source.text;
    let place = within(text, diag.span.range());
    let start = text.floor_char_boundary(place.start.saturating_sub(AROUND).max(line.start));
    let end = text.ceil_char_boundary((place.start + AROUND).min(line.end));
    let inside = place.start - start..place.end.min(end) - start;
    let number = line_number(source, line.start);
    let column = text[line.start..place.start].chars().count() + 1;
    let origin = Origin::path(&source.name).line(number).char_column(column);
    let primary = labelled(AnnotationKind::Primary.span(inside), &diag.label);
    (origin, Snippet::source(&text[start..end]).line_start(number).annotation(primary))
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

fn line_number(source: &Source, offset: usize) -> usize {
    1 + source.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

fn line_start(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

fn line_end(text: &str, offset: usize) -> usize {
    let offset = offset.min(text.len());
    text.as_bytes()[offset..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |length| offset + length)
}
