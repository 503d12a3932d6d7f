//! Names in columns, as ls(1) shows them on a terminal.

use unicode_width::UnicodeWidthStr;

/// Cells between two columns.
const GAP: usize = 2;

/// How wide a text is on a terminal, in cells.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The widths of as many columns as fit, filled from the top down, for names so wide.
pub(super) fn layout(widths: &[usize], line: usize) -> Vec<usize> {
    // A name and a gap take at least three cells.
    let most = (line / (GAP + 1)).clamp(1, widths.len().max(1));
    for count in (2..=most).rev() {
        let rows = widths.len().div_ceil(count);
        let columns: Vec<_> = widths
            .chunks(rows)
            .map(|column| column.iter().copied().max().unwrap_or(0))
            .collect();
        // Fewer rows may leave the last columns empty.
        if columns.len() == count && columns.iter().sum::<usize>() + GAP * (count - 1) <= line {
            return columns;
        }
    }
    vec![widths.iter().copied().max().unwrap_or(0)]
}

/// The lines: for each the positions of its names, with the cells to leave free behind each.
pub(super) fn lines(widths: &[usize], line: usize) -> Vec<Vec<(usize, usize)>> {
    let columns = layout(widths, line);
    let rows = widths.len().div_ceil(columns.len());
    (0..rows)
        .map(|row| {
            let names = columns.iter().enumerate().filter_map(|(column, &wide)| {
                let at = column * rows + row;
                let own = widths.get(at)?;
                let last = at + rows >= widths.len();
                Some((at, if last { 0 } else { wide - own + GAP }))
            });
            names.collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &[&str], line: usize) -> Vec<String> {
        let widths: Vec<_> = names.iter().map(|name| width(name)).collect();
        let lines = lines(&widths, line);
        lines
            .into_iter()
            .map(|line| {
                let parts = line
                    .into_iter()
                    .map(|(at, gap)| format!("{}{}", names[at], " ".repeat(gap)));
                parts.collect()
            })
            .collect()
    }

    #[test]
    fn columns_fill_the_line_from_the_top_down() {
        let names = ["bin", "boot", "dev", "etc", "home"];
        assert_eq!(shown(&names, 80), ["bin  boot  dev  etc  home"]);
        assert_eq!(shown(&names, 16), ["bin   dev  home", "boot  etc"]);
        assert_eq!(shown(&names, 9), names);
        assert_eq!(shown(&["only"], 1), ["only"]);
        assert_eq!(shown(&[], 80), Vec::<String>::new());
        // Wide characters take two cells.
        assert_eq!(shown(&["世界", "a", "b", "c"], 8), ["世界  b", "a     c"]);
    }
}
