//! Let it crash: what restarts an actor, how often, and who is told.

mod cell;
mod intensity;
mod policy;
mod progress;
mod role;
mod supervisor;
mod ward;
mod watch;

pub use cell::Cell;
#[cfg(feature = "chaos")]
pub(crate) use cell::panic_text;
pub use intensity::{Backoff, Intensity};
pub use policy::{Blame, Child, Escalation, Exit, RestartLimits, RestartPolicy, Strategy, Verdict};
pub use progress::{Progress, Protected, Word, Zone};
pub use role::{LaneName, Role};
#[cfg(feature = "chaos")]
pub(crate) use supervisor::Duty;
pub use supervisor::{Hands, Supervisor, Wards};
pub use ward::{Command, Life, Obituary, Ward};
pub use watch::{Finding, Watch, WatchLimits};
