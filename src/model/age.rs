//! How old the journal is: the time that messages age by.

/// Milliseconds that the journal has been in use, kills included. It never runs backwards, whatever
/// the machine's clock does, and stands still while no broker runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalAge(pub u64);

impl JournalAge {
    /// The lifetime of something written at that age has passed.
    pub fn has_passed(self, written: Self, lasts_ms: u64) -> bool {
        written.0.saturating_add(lasts_ms) <= self.0
    }
}
