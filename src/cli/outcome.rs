//! How a command ends, and the exit code of each end.

use semj::ErrorKind;
use std::fmt;
use std::io;
use std::path::Path;

/// Exit codes; they are part of the interface.
pub(crate) mod code {
    /// Everything went well.
    pub(crate) const OK: u8 = 0;
    /// A negative finding: damage, an unknown event, nothing found with `--fail-empty`.
    pub(crate) const FINDING: u8 = 1;
    /// Wrong use of the command line.
    pub(crate) const USAGE: u8 = 2;
    /// Some of the input was refused.
    pub(crate) const REFUSED: u8 = 3;
    /// The journal is missing, locked, poisoned, full or unreadable.
    pub(crate) const JOURNAL: u8 = 4;
    /// Interrupted by a signal.
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// What a command returns.
pub(crate) type Outcome = Result<(), Ended>;

/// A command that did not simply succeed.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    /// The exit code.
    pub(crate) code: u8,
    /// What to say on stderr; empty when everything has been said.
    pub(crate) message: String,
}

impl Ended {
    /// An end with nothing more to say.
    pub(crate) fn quiet(code: u8) -> Self {
        Ended { code, message: String::new() }
    }

    /// Wrong use.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Ended { code: code::USAGE, message: message.to_string() }
    }

    /// A negative finding.
    pub(crate) fn finding(message: impl fmt::Display) -> Self {
        Ended { code: code::FINDING, message: message.to_string() }
    }

    /// Writing to stdout failed. A reader that went away is no failure: `semj query | head` ends quietly.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Ended::quiet(code::OK),
            _ => Ended { code: code::JOURNAL, message: format!("cannot write the output: {error}") },
        }
    }

    /// The journal cannot serve: what is wrong, where, and what to do about it.
    pub(crate) fn journal(path: &Path, kind: ErrorKind, error: &dyn fmt::Display) -> Self {
        let place = path.display().to_string();
        let mut message = error.to_string();
        if !message.contains(&place) {
            message = format!("{place}: {message}");
        }
        if let Some(advice) = advice(kind) {
            message.push_str("\n  ");
            message.push_str(advice);
        }
        Ended { code: code::JOURNAL, message }
    }
}

/// What a person can do about each kind of failure.
fn advice(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Missing => Some("name a journal with -j DIR or SEMJ_JOURNAL; `semj append` creates one"),
        ErrorKind::Locked => {
            Some("one process owns a journal at a time; `--wait 30s` waits for it, reading works meanwhile")
        }
        ErrorKind::Poisoned => Some(
            "what was acknowledged is safe; end the owning process, look at the disk, open the journal again",
        ),
        ErrorKind::Full => Some("free some space on its file system and run the command again"),
        ErrorKind::Damaged => Some(
            "`semj verify` lists the damage, `semj doctor` explains it, `--past-damage` reads on behind it",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure_but_a_full_disk_is() {
        assert_eq!(Ended::output(&io::Error::from(io::ErrorKind::BrokenPipe)), Ended::quiet(code::OK));
        assert_eq!(Ended::output(&io::Error::from(io::ErrorKind::StorageFull)).code, code::JOURNAL);
    }

    #[test]
    fn messages_say_what_where_and_what_to_do() {
        let e = Ended::journal(Path::new("/j"), ErrorKind::Locked, &"locked by process 7");
        assert_eq!(e.code, code::JOURNAL);
        assert!(
            e.message.starts_with("/j: locked by process 7\n") && e.message.contains("--wait"),
            "{}",
            e.message
        );
        let e = Ended::journal(Path::new("/j"), ErrorKind::Missing, &"/j: nothing here");
        assert!(e.message.starts_with("/j: nothing here\n"), "{}", e.message);
    }
}
