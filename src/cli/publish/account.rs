//! The account of sent messages: how many the broker has certainly accepted.

use anyhow::anyhow;

use crate::cli::problem::Problem;
use crate::model::TopicName;

/// See the module.
pub(super) struct Account {
    first_id: u64,
    /// The producer's name.
    name: Option<TopicName>,
    /// Messages sent, be it in part.
    pub(super) sent: u64,
    /// Messages acknowledged.
    pub(super) acknowledged: u64,
    duplicates: u64,
    refused: u64,
    first_refused: Option<(u64, Problem)>,
    last_offset: Option<u64>,
    last_receipt: Option<String>,
}

impl Account {
    /// Nothing sent so far.
    pub(super) fn from(first_id: u64, name: Option<TopicName>) -> Self {
        Self {
            first_id,
            name,
            sent: 0,
            acknowledged: 0,
            duplicates: 0,
            refused: 0,
            first_refused: None,
            last_offset: None,
            last_receipt: None,
        }
    }

    /// Messages refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// A message was refused because another socket has the producer's name.
    pub(super) fn is_fenced(&self) -> bool {
        self.first_refused.as_ref().is_some_and(|(_, problem)| problem.is_fenced())
    }

    /// A message is acknowledged.
    pub(super) fn acknowledge(
        &mut self,
        offset: Option<u64>,
        receipt: Option<String>,
        duplicate: bool,
    ) {
        self.acknowledged += 1;
        self.duplicates += u64::from(duplicate);
        // A message that was stored before may have no offset any more.
        self.last_offset = offset.or(self.last_offset);
        self.last_receipt = receipt.or_else(|| self.last_receipt.take());
    }

    /// A message is refused.
    pub(super) fn refuse(&mut self, id: u64, problem: Problem) {
        self.refused += 1;
        let number = id - self.first_id + 1;
        if self.first_refused.as_ref().is_none_or(|(first, _)| number < *first) {
            self.first_refused = Some((number, problem));
        }
    }

    /// The report after publishing ended with this result.
    ///
    /// # Errors
    /// The failure, and how far publishing came.
    pub(super) fn close(self, ended: anyhow::Result<()>) -> anyhow::Result<String> {
        let Self { sent, acknowledged, refused, .. } = self;
        let unanswered = sent - acknowledged - refused;
        let mut account = format!("{acknowledged} of {sent} messages acknowledged");
        if refused > 0 {
            account += &format!(", {refused} refused");
        }
        if unanswered > 0 {
            account += &format!(", {unanswered} not answered, which may be stored or not");
        }
        match (ended, self.first_refused) {
            (Err(error), _) if sent == 0 => Err(error),
            (Err(error), None) => Err(error.context(account)),
            (ended, Some((number, problem))) => {
                if let Err(error) = ended {
                    account += &format!(" ({error:#})");
                }
                let which = if sent > 1 { format!("message {number}: ") } else { String::new() };
                Err(anyhow!("{account}: {which}{problem}"))
            }
            (Ok(()), None) if sent == 0 => Ok("nothing to publish".to_owned()),
            (Ok(()), None) => Ok(Self { first_refused: None, ..self }.report()),
        }
    }

    fn report(&self) -> String {
        let Self { acknowledged, duplicates, first_id, .. } = self;
        let mut report = match (acknowledged, self.last_offset, &self.last_receipt) {
            (1, Some(offset), Some(receipt)) => format!("offset {offset}, receipt {receipt}"),
            (count, Some(offset), _) => {
                format!("{count} messages acknowledged, the last at offset {offset}")
            }
            (count, None, _) => format!("{count} messages acknowledged"),
        };
        match duplicates {
            0 => {}
            1 if *acknowledged == 1 => report += ", a duplicate",
            _ => report += &format!(", {duplicates} of them duplicates"),
        }
        if let Some(name) = &self.name {
            let last_id = first_id + acknowledged - 1;
            report += &format!(", {name}'s ids {first_id} to {last_id}");
        }
        report
    }
}
