//! Which problem each part's errors are to a client.

use super::{Code, Problem};
use crate::actors::directory::Unavailable;
use crate::model::{AppendError, NameError, ReadError, RecordError};
use crate::patterns::request_acknowledge::PublishError;
use crate::topics::{BackupError, TopicChangeError};

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::new(Code::InvalidName, error.to_string())
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::TooLong { .. } | RecordError::ContentType | RecordError::Empty { .. } => {
                Self::new(Code::InvalidRequest, error.to_string())
            }
            RecordError::Malformed => Self::new(Code::Internal, error.to_string()),
        }
    }
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        let code = match &error {
            BackupError::Busy => Code::Overloaded,
            BackupError::StorageFull(_) => Code::StorageFull,
            BackupError::Failed(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let code = match &error {
            AppendError::TopicDeleted => Code::TopicNotFound,
            AppendError::Fenced => Code::ProducerFenced,
            AppendError::Quarantined => Code::Quarantined,
            AppendError::OutOfTurn => Code::Recovering,
            AppendError::TooLarge { .. } => Code::BodyTooLarge,
            AppendError::StorageFull(_) => Code::StorageFull,
            AppendError::Failed(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Recovering | PublishError::Deleted => {
                Self::new(Code::Recovering, error.to_string())
            }
            PublishError::Topic(error) => error.into(),
            PublishError::Append(error) => error.into(),
        }
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        PublishError::from(unavailable).into()
    }
}

impl From<TopicChangeError> for Problem {
    fn from(error: TopicChangeError) -> Self {
        let code = match &error {
            TopicChangeError::NotFound => Code::TopicNotFound,
            TopicChangeError::AlreadyExists => Code::AlreadyExists,
            TopicChangeError::TooMany { .. } => Code::TooManyTopics,
            TopicChangeError::GivenUp => Code::Quarantined,
            TopicChangeError::NoSuchDamage(_) => Code::InvalidRequest,
            TopicChangeError::StorageFull => Code::StorageFull,
            TopicChangeError::Journal(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let detail = error.to_string();
        match error {
            ReadError::NoSuchTopic(_) => Self::new(Code::TopicNotFound, "the topic was deleted"),
            ReadError::Gone { first } => Self::offset_gone(first),
            ReadError::Ahead { .. } => Self::invalid("from", detail),
            ReadError::Damaged(_) => Self::new(Code::Quarantined, detail),
            ReadError::Failed(_) => Self::new(Code::Internal, detail),
        }
    }
}
