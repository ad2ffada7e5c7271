//! Text of events for human eyes: nothing in it may act on the terminal.

use std::fmt::Write as _;

/// Whether a character would act rather than show: controls, separators of lines, marks of writing direction.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// The text on one line, with every acting character shown as an escape.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push(&mut out, c);
    }
    out
}

/// The text with its line feeds kept and every other acting character shown as an escape.
pub(crate) fn block(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' { out.push(c) } else { push(&mut out, c) }
    }
    out
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_active(c) => {
            // Writing to a String has no way to fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// The escaped text, cut to `width` characters with a mark where something is missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    // Characters far beyond the cut need no escaping: payloads can be a megabyte.
    let head: String = text.chars().take(width + 1).collect();
    let escaped = line(&head);
    if escaped.chars().count() <= width {
        return escaped;
    }
    let mut short: String = escaped.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The escaped text in a column of `width` characters.
pub(crate) fn column(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let missing = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_the_terminal() {
        let hostile = "\u{1B}]52;c;QQ==\u{7}\u{9B}2J\u{7F}\r\n\t\u{202E}abc\u{2066}\u{2028}\0";
        for shown in [line(hostile), cut(hostile, 500), column(hostile, 500)] {
            assert!(!shown.chars().any(is_active), "{shown:?}");
        }
        assert_eq!(line("a\nb\u{1B}"), "a\\nb\\u{1b}");
        assert_eq!(block("a\nb\u{1B}"), "a\nb\\u{1b}");
        assert_eq!(line("grüße 東京 😀"), "grüße 東京 😀");
    }

    #[test]
    fn columns_keep_their_width() {
        assert_eq!(column("ab", 4), "ab  ");
        assert_eq!(column("abcdef", 4), "abc…");
        assert_eq!(column("\u{1B}\u{1B}", 4).chars().count(), 4);
        assert_eq!(cut("abcd", 4), "abcd");
    }
}
