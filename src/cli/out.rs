//! Output: stdout without the panic of `println!` on a closed pipe, JSON lines, and colours where they are wanted.

use super::outcome::{Ended, code};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, BufWriter, StdoutLock, Write as _};

/// Buffered stdout.
pub(crate) struct Out {
    to: BufWriter<StdoutLock<'static>>,
    styled: bool,
}

impl Out {
    /// Stdout; `json` output is never coloured.
    pub(crate) fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let styled = !json && anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        Out { to: BufWriter::with_capacity(1 << 16, stdout.lock()), styled }
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Ended> {
        self.to
            .write_all(text.as_bytes())
            .and_then(|()| self.to.write_all(b"\n"))
            .map_err(|e| Ended::output(&e))
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.to.write_all(bytes).map_err(|e| Ended::output(&e))
    }

    /// Hands over what is buffered. Every command ends with it: a buffer that is only dropped hides its errors.
    pub(crate) fn flush(&mut self) -> Result<(), Ended> {
        self.to.flush().map_err(|e| Ended::output(&e))
    }

    /// Ends the command when nobody reads stdout any more; for commands that may not write for a long time.
    pub(crate) fn check_reader(&self) -> Result<(), Ended> {
        let stdout = io::stdout();
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let looked = poll(&mut watched, Some(&now)).is_ok();
        let gone = watched.iter().any(|w| w.revents().intersects(PollFlags::ERR | PollFlags::HUP));
        if looked && gone { Err(Ended::quiet(code::OK)) } else { Ok(()) }
    }

    /// The text in a style, where styles are wanted.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.styled { style.around(text) } else { text.to_owned() }
    }
}

/// The few styles there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// Times and numbers.
    Faint,
    /// Who.
    Agent,
    /// What.
    Kind,
    /// Something to worry about.
    Bad,
    /// All is well.
    Good,
}

impl Style {
    fn around(self, text: &str) -> String {
        let start = match self {
            Style::Faint => "2",
            Style::Agent => "36",
            Style::Kind => "33",
            Style::Bad => "31",
            Style::Good => "32",
        };
        format!("\u{1B}[{start}m{text}\u{1B}[0m")
    }
}

/// One JSON object on one line. Beyond ASCII, only strings occur in JSON, so whatever could act on a terminal or
/// split the line can be escaped in the finished text.
pub(crate) fn json_line(value: &impl serde::Serialize) -> String {
    json_text(serde_json::to_string(value).unwrap_or_else(|_| "{}".into()))
}

/// One line of finished JSON text, with whatever could act on a terminal or split the line escaped.
pub(crate) fn json_text(text: String) -> String {
    if text.is_ascii() && !text.contains('\u{7F}') {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        let active = c.is_control()
            || matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
        if active {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// A size with a unit, for human eyes.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, one) in UNITS {
        if bytes >= one {
            return format!("{:.1} {unit}", bytes as f64 / one as f64);
        }
    }
    format!("{bytes} B")
}

/// A count with groups of three digits.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// So many of something that takes an `s` (or, ending in `s`, an `es`) when there are several.
pub(crate) fn counted(n: u64, one: &str) -> String {
    let ending = match n {
        1 => "",
        _ if one.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {one}{ending}", count(n))
}

/// Writes to stderr; there is nowhere to tell if that fails.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "semj: {}", super::escape::block(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_on_one_line_and_survives() {
        let value = serde_json::json!({"a": "x\n\u{85}\u{2028}\u{202E}\u{9B}é\u{7F}"});
        let line = json_line(&value);
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{202E}'), "{line}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!((count(0), count(999), count(1_000), count(1_234_567)).3, "1,234,567");
        assert_eq!(
            (size(1023), size(1 << 20), size(1536)),
            ("1023 B".into(), "1.0 MiB".into(), "1.5 KiB".into())
        );
    }
}
