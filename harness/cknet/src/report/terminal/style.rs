//! Owns the colours. Nothing is said by colour alone.

use owo_colors::OwoColorize;

use crate::event::Standing;

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Good,
    Bad,
    Doubtful,
    Muted,
    /// What a line is about, left of the line.
    Label,
    Heading,
}

impl Style {
    /// The style of a result.
    pub fn of(standing: Standing) -> Self {
        match standing {
            Standing::Pass => Self::Good,
            Standing::Fail | Standing::XPass => Self::Bad,
            Standing::Error | Standing::Aborted | Standing::Flaky => Self::Doubtful,
            Standing::Skipped | Standing::XFail => Self::Muted,
        }
    }

    /// The text with the codes around it.
    pub fn paint(self, text: &str) -> String {
        match self {
            Self::Good => text.green().to_string(),
            Self::Bad => text.red().bold().to_string(),
            Self::Doubtful => text.yellow().bold().to_string(),
            Self::Muted | Self::Label => text.dimmed().to_string(),
            Self::Heading => text.bold().to_string(),
        }
    }
}
