//! Retention: how much of its messages a topic keeps, as limits of its stream.

use crate::journal::StreamLimits;
use crate::model::TopicSettings;

/// The limits of a topic's outgoing stream.
pub(super) fn limits(settings: &TopicSettings) -> StreamLimits {
    StreamLimits { age_ms: settings.retention_ms, bytes: settings.retention_bytes }
}
