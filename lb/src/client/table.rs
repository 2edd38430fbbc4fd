//! Rows as lines with aligned columns.

use comfy_table::Table;
use proto::printable::printable;

/// Rows as lines with aligned columns, one line a row; `gaps` are the spaces before each column.
pub(crate) fn columns<R: IntoIterator<Item = String>>(
    gaps: &[u16],
    rows: impl Iterator<Item = R>,
) -> Vec<String> {
    let mut table = Table::new();
    // The table counts the columns of what is seen.
    let rows = rows.map(|row| row.into_iter().map(|cell| printable(&cell)).collect::<Vec<_>>());
    table.load_style(comfy_table::presets::NOTHING).add_rows(rows);
    for (column, gap) in table.column_iter_mut().zip(gaps) {
        column.set_padding((*gap, 0));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}
