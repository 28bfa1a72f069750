//! The stage of a message, as its receipt shows it.

use serde::{Serialize, Serializer};

/// A stage of a message's life (API.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It was received.
    Accepted,
    /// It is stored, at its topic's level.
    Logged,
    /// Consumers can see it.
    Queued,
    /// Its time to live has passed; final.
    Expired,
    /// The broker lost it, in a mode or at a level that may lose; final.
    Lost,
}

impl Stage {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Logged => "logged",
            Self::Queued => "queued",
            Self::Expired => "expired",
            Self::Lost => "lost",
        }
    }

    /// No stage follows it.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Expired | Self::Lost)
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
