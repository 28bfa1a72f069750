//! Who lost what, where damage hides it.
//!
//! A chunk that is gone held blocks of unknown topics. Every topic that has a later block is
//! cleared by it: what it lost, if anything, shows in its offsets. The others are suspects.

use std::collections::HashMap;

use super::RecoveredTopic;
use super::scan::Lost;
use crate::journal::Damage;
use crate::journal::positions::Positions;
use crate::journal::roster::Listed;
use crate::journal::salvage::Hole;
use crate::model::{Epoch, Gap, Sequence, TopicId};

/// The most messages one commit can hold: a full one and one more block of the largest frame.
const COMMIT_MESSAGES_MAX: u64 = 101_000;

/// Takes up topics of which nothing is left but their name on the roster.
pub(super) fn adopt_listed(
    topics: &mut HashMap<TopicId, RecoveredTopic>,
    deleted: &HashMap<TopicId, Sequence>,
    roster: &[Listed],
    positions: &mut Positions,
) {
    for Listed { id, name, .. } in roster {
        let named = topics.values().any(|topic| topic.record.name == *name);
        if !named && !topics.contains_key(id) && !deleted.contains_key(id) {
            positions.next_topic_id = positions.next_topic_id.max(id.0 + 1);
            topics.insert(*id, RecoveredTopic::adopted(*id, name.clone(), Epoch::FIRST));
        }
    }
}

/// Quarantines the topics that may have lost messages at their end.
pub(super) fn suspect(
    topics: &mut HashMap<TopicId, RecoveredTopic>,
    lost: Lost,
    last_seen: &HashMap<TopicId, Sequence>,
    holes: &[Hole],
) {
    let Some((first, last)) = lost.ends else { return };
    let hidden = holes.iter().map(|hole| hole.commits.end() - hole.commits.start() + 1).sum();
    let commits = u64::max(hidden, lost.count);
    let messages_max = commits.saturating_mul(COMMIT_MESSAGES_MAX).min(1 << 40);
    for (id, topic) in topics.iter_mut() {
        if last_seen.get(id).is_some_and(|seen| *seen > last) {
            continue;
        }
        let gap = Gap { from: topic.index.head, to: topic.index.head + messages_max - 1 };
        let sequences = Some([first.0, last.0]);
        topic.record.damage.push(Damage { gap, sequences });
        topic.changed = true;
        let (name, from, to) = (&topic.record.name, first.0, last.0);
        tracing::error!(topic = %name, from, to, "may have lost messages in these sequences");
    }
}
