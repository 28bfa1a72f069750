//! Positions: what a client keeps of a topic.

use std::fmt;
use std::str::FromStr;

use super::Epoch;

/// An offset in an epoch of a topic. As an epoch number is never used twice under a topic's name,
/// it shows what the client has seen, though the topic was created anew or restored since. Written
/// `{epoch}-{offset}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The epoch.
    pub epoch: Epoch,
    /// The offset.
    pub offset: u64,
}

impl Position {
    /// The position after this one.
    pub fn next(self) -> Self {
        Self { offset: self.offset.saturating_add(1), ..self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch.0, self.offset)
    }
}

/// A text that is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a position, `{{epoch}}-{{offset}}`")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let number = |digits: &str| {
            let only_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            only_digits.then(|| digits.parse().ok()).flatten().ok_or(NoPosition)
        };
        let (epoch, offset) = text.split_once('-').ok_or(NoPosition)?;
        let (epoch, offset) = (number(epoch)?, number(offset)?);
        // No message has the largest number: a head lies behind each.
        let position = Self { epoch: Epoch(epoch), offset };
        (offset < u64::MAX).then_some(position).ok_or(NoPosition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written_and_nothing_else_is_one() {
        let position = Position { epoch: Epoch(1 << 40), offset: 17 };
        assert_eq!(position.to_string().parse(), Ok(position));
        assert_eq!(position.next().offset, 18);
        for text in [
            "",
            "1",
            "1-",
            "-1",
            "1-2-3",
            "+1-2",
            "1-+2",
            "1 -2",
            "99999999999999999999-1",
            "1-18446744073709551615",
        ] {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }
}
