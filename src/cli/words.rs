//! Answers for people: compact tables, and values as one reads them.

use serde_json::Value;
use tradewind::base::ids;

/// Columns as wide as they must be, two blanks between them; nothing behind the last.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|h| (*h).to_owned()).collect();
    let rows: Vec<Vec<String>> = [head].into_iter().chain(rows).collect();
    if rows.len() == 1 {
        return "none\n".to_owned();
    }
    align(&rows)
}

/// Names and what stands for them.
pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let rows: Vec<Vec<String>> = pairs
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    align(&rows)
}

fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{:<width$}  ", one_line(cell)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Without line breaks, and without what could steer a terminal: some texts come from strangers.
pub fn one_line(text: &str) -> String {
    let harmless = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(harmless).collect()
}

/// A text as it is, null as nothing, the rest as JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An id that a person recognises.
pub fn short(value: &Value) -> String {
    ids::short(&plain(value))
}

/// A time to the second, in UTC and said to be.
pub fn time(value: &Value) -> String {
    let text = plain(value);
    match text.parse::<jiff::Timestamp>() {
        Ok(t) => t.strftime("%F %TZ").to_string(),
        Err(_) => text,
    }
}

pub fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What stands below a list that goes on.
pub fn more(page: &Value) -> String {
    match page["next"].as_str() {
        Some(next) => format!("there are more: --after {next}\n"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [
            vec!["ä".into(), "12".into()],
            vec!["abc".into(), "3".into()],
        ];
        assert_eq!(table(&["ID", "N"], rows), "ID   N\nä    12\nabc  3\n");
        assert_eq!(table(&["ID"], []), "none\n");
        assert_eq!(pairs([("why", "a\nb\u{1b}[2J".into())]), "why  a b [2J\n");
        assert_eq!(
            pairs([("a", "1".into()), ("long", "2".into())]),
            "a     1\nlong  2\n"
        );
    }

    #[test]
    fn values_as_one_reads_them() {
        assert_eq!(plain(&json!(null)), "-");
        assert_eq!(
            time(&json!("2026-01-02T03:04:05.678Z")),
            "2026-01-02 03:04:05Z"
        );
        assert_eq!(short(&json!("0x1234567890abcdef")), "0x1234…cdef");
    }
}
