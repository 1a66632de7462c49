//! Words of messages: names in backticks, lists of them, and the nearest of those that are known.

/// Names longer than this get no suggestion: edit distance is quadratic.
pub(crate) const MAX_NAME: usize = 64;

/// The nearest name, as a sentence.
pub fn suggest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
    nearest(name, known).map(|nearest| format!("did you mean {}?", quote(nearest)))
}

/// The nearest name, if one is near.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return None;
    }
    let allowed = 1 + name.chars().count() / 4;
    // `mem` for `memory`, `maximum` for `max`: farther apart than a slip of the pen, but clear.
    let abbreviates =
        |known: &str| known.len().min(name.len()) >= 3 && (known.starts_with(name) || name.starts_with(known));
    // Edit distance is dear: only names of about the same length, and not more than this many.
    let similar =
        |known: &&str| known.len() <= MAX_NAME && (known.len().abs_diff(name.len()) <= allowed || abbreviates(known));
    known
        .into_iter()
        .take(20_000)
        .filter(similar)
        .map(|known| (distance(name, known), known))
        .filter(|(distance, known)| *distance <= allowed || abbreviates(known))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Edit distance, but for case and hyphens. What both begin and end with counts nothing, and is most of it where there
/// are many names.
fn distance(left: &str, right: &str) -> usize {
    let folded = |text: &str| text.to_lowercase().replace('_', "-").chars().collect::<Vec<_>>();
    let (left, right) = (folded(left), folded(right));
    let (mut left, mut right) = (left.as_slice(), right.as_slice());
    while let ([first, more @ ..], [other, rest @ ..]) = (left, right)
        && first == other
    {
        (left, right) = (more, rest);
    }
    while let ([more @ .., last], [rest @ .., other]) = (left, right)
        && last == other
    {
        (left, right) = (more, rest);
    }
    strsim::osa_distance(&left.iter().collect::<String>(), &right.iter().collect::<String>())
}

/// The names in backticks, with commas.
pub(crate) fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<_> = names.by_ref().take(30).map(quote).collect();
    if names.next().is_some() {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

/// A user's text in backticks, short and on one line.
pub(crate) fn quote(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(60)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(60).is_some() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}
