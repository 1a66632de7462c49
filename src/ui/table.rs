//! Tables: aligned columns without lines, so that `grep` and `awk` work on them.

use unicode_width::UnicodeWidthStr;

use super::style::STRONG;

/// A table with a head.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|title| format!("{STRONG}{title}{STRONG:#}")).collect()] }
    }

    /// One more row. Cells may carry styles; line breaks and tabs become spaces.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| cell.replace(['\n', '\r', '\t'], " ")).collect());
    }

    /// The text, each row one line, without trailing spaces.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                text.push_str(cell);
                let rest_is_empty = row[column + 1..].iter().all(String::is_empty);
                if !rest_is_empty {
                    text.extend(std::iter::repeat_n(' ', widths[column] - width(cell) + 2));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Columns that a cell takes on a terminal.
fn width(cell: &str) -> usize {
    anstream::adapter::strip_str(cell).map(UnicodeWidthStr::width).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::style::GOOD;

    #[test]
    fn columns_align_whatever_the_styles_and_the_script() {
        let mut table = Table::new(&["NAME", "STATUS"]);
        table.row(["日本".into(), format!("{GOOD}ok{GOOD:#}")]);
        table.row(["a\nb".into(), String::new()]);
        let plain = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(plain, "NAME  STATUS\n日本  ok\na b\n");
    }
}
