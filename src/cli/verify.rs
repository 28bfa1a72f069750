//! `weir verify`: is a data directory sound, and, if not, what can be saved?

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use indicatif::{ProgressBar, ProgressStyle};

use super::output::report;
use super::paths::directory;
use crate::model::Damage;
use crate::topics::{self, Checked, CheckedTopic, Verification};

#[derive(Args)]
pub(super) struct Verify {
    /// The data directory; it is not changed
    #[arg(value_name = "DIR", value_parser = directory())]
    directory: PathBuf,
    /// Create a new data directory from what can be read
    #[arg(long, value_name = "DIR", value_parser = directory())]
    rebuild_into: Option<PathBuf>,
}

impl Verify {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let found = self.check().await?;
        // The rebuild runs whatever happens to the report.
        let reported = report(lines(&found));
        if let Some(target) = &self.rebuild_into {
            self.rebuild(target).await?;
        }
        reported?;
        if !found.is_sound() {
            bail!("{} is damaged", self.directory.display());
        }
        Ok(())
    }

    async fn check(&self) -> anyhow::Result<Verification> {
        // Beside the directory, so that tables can be linked instead of copied.
        let directory = self.directory.canonicalize();
        let directory = directory.with_context(|| format!("{}", self.directory.display()))?;
        let work = directory.with_extension(format!("verify-{}", std::process::id()));
        let bar = bar();
        let progress = |read, total| {
            bar.set_length(total);
            bar.set_position(read);
        };
        let found = topics::verify(&self.directory, &work, progress).await;
        bar.finish_and_clear();
        found.with_context(|| format!("can't check {}", self.directory.display()))
    }

    async fn rebuild(&self, target: &Path) -> anyhow::Result<()> {
        let bar = bar();
        let progress = |saved| bar.set_position(saved);
        let rebuilt = topics::rebuild(&self.directory, target, progress).await;
        bar.finish_and_clear();
        let (saved, unread) = rebuilt.with_context(|| format!("into {}", target.display()))?;
        let mut lines: Vec<_> =
            unread.iter().map(|what| format!("could not be read: {what}")).collect();
        lines.push(format!(
            "saved into {}: {} topics, {} messages, {} bytes; {} offsets are missing",
            target.display(),
            saved.topics,
            saved.messages,
            saved.bytes,
            saved.damaged,
        ));
        report(lines)
    }
}

/// A progress bar on standard error, if that is a terminal.
pub(super) fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {binary_bytes} of {binary_total_bytes}");
    let bar = ProgressBar::new(0);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

fn lines(found: &Verification) -> Vec<String> {
    let mut lines: Vec<_> =
        found.bad_files.iter().map(|bad| format!("damaged file: {bad}")).collect();
    let checked = match &found.content {
        Err(error) => {
            lines.push(format!("a broker would not start: {error}"));
            return lines;
        }
        Ok(checked) => checked,
    };
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["topic", "first", "head", "messages", "gaps", "damage"]);
    for CheckedTopic { name, first, head, messages, gaps, damage } in &checked.topics {
        let gaps: Vec<_> = gaps.iter().map(|gap| format!("{} to {}", gap.from, gap.to)).collect();
        let damage: Vec<_> = damage.iter().map(describe).collect();
        table.add_row([
            name.to_string(),
            first.to_string(),
            head.to_string(),
            messages.to_string(),
            gaps.join(", "),
            damage.join(", "),
        ]);
    }
    lines.push(table.to_string());
    let Checked { topics, unreadable, set_aside } = checked;
    lines.extend(unreadable.iter().map(|what| format!("can't be read: {what}")));
    let messages: u64 = topics.iter().map(|topic| topic.messages).sum();
    let damaged = topics.iter().filter(|topic| !topic.damage.is_empty()).count();
    let summary =
        format!("{} topics, {messages} messages read; {damaged} topics damaged", topics.len());
    lines.push(summary);
    if *set_aside > 0 {
        lines.push(format!(
            "a start would repair {set_aside} files of the store's log, and keep them aside as they were"
        ));
    }
    lines
}

fn describe(damage: &Damage) -> String {
    let (from, to) = (damage.gap.from, damage.gap.to);
    match damage.sequences {
        None => format!("{from} to {to}"),
        Some([first, last]) => {
            format!("suspect from {from} on (journal sequences {first} to {last})")
        }
    }
}
