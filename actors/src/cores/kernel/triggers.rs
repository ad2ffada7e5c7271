//! Why the state of a source must be established anew.

/// A reason for a resync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// Records are missing.
    Gap,
    /// The source began a new life: a reboot, a module loaded again, a ring made anew.
    NewLife,
    /// Its sequence went back, and it did not say why.
    SequenceBack,
    /// The wall clock was set.
    ClockStep,
    /// It has been behind for too long.
    Lag,
    /// Damage in the journal may hide the newest place to go on from: an older one was taken.
    HiddenPoint,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Trigger; 6] = [
        Trigger::Gap,
        Trigger::NewLife,
        Trigger::SequenceBack,
        Trigger::ClockStep,
        Trigger::Lag,
        Trigger::HiddenPoint,
    ];

    /// The reason in one word, as it stands in events.
    pub const fn name(self) -> &'static str {
        match self {
            Trigger::Gap => "gap",
            Trigger::NewLife => "new_life",
            Trigger::SequenceBack => "sequence_back",
            Trigger::ClockStep => "clock_step",
            Trigger::Lag => "lag",
            Trigger::HiddenPoint => "hidden_resume_point",
        }
    }
}

/// How often each reason was given since the last resync.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Triggers([u64; Trigger::ALL.len()]);

impl Triggers {
    /// A reason was given.
    pub fn add(&mut self, trigger: Trigger) {
        if let Some(count) = self.0.get_mut(trigger as usize) {
            *count += 1;
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    /// Each reason that was given, and how often.
    pub fn given(&self) -> impl Iterator<Item = (Trigger, u64)> {
        Trigger::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}
