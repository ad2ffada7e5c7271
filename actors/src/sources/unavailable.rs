//! Why a source cannot be had, and what to do about it.

use std::fmt;

/// A source that cannot be opened here and now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unavailable {
    /// What it needs, e.g. "CAP_BPF and CAP_PERFMON".
    pub need: String,
    /// The error number of the call that was tried, where one was.
    pub errno: Option<i32>,
    /// What a person can do.
    pub remedy: String,
    /// The next source to try, and what it does not see.
    pub fallback: Option<String>,
}

impl Unavailable {
    /// One that needs `need` and is had by `remedy`.
    pub fn new(need: impl Into<String>, remedy: impl Into<String>) -> Self {
        Unavailable { need: need.into(), errno: None, remedy: remedy.into(), fallback: None }
    }

    /// With the error of the call that was tried.
    #[must_use]
    pub fn because(mut self, error: &std::io::Error) -> Self {
        self.errno = error.raw_os_error();
        self
    }

    /// With the source to try next.
    #[must_use]
    pub fn or_else(mut self, fallback: impl Into<String>) -> Self {
        self.fallback = Some(fallback.into());
        self
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it needs {}", self.need)?;
        if let Some(errno) = self.errno {
            write!(f, " ({})", std::io::Error::from_raw_os_error(errno))?;
        }
        write!(f, "; {}", self.remedy)?;
        if let Some(fallback) = &self.fallback {
            write!(f, "; else: {fallback}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unavailable {}

/// The source cannot do what was asked: it knows no point behind which all earlier effects are, or no state to compare with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the source cannot tell when everything before now was read")]
pub struct NotSupported;
