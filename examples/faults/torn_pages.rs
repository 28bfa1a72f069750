//! The power fails while the operating system is writing back: of the unsynced data some pages of
//! the WAL are on the disk and others are not, in any order.
//!
//! Must hold: the same as when the power is cut. It never tears a page in two: a disk promises a
//! sector, and the file system's pages are written whole.

use crate::disk::Cut;
use crate::power_cut;
use crate::report::Row;
use crate::setting::Setting;

pub const NAME: &str = "torn-pages";

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    power_cut::run_cuts(setting, NAME, |seed| Cut::Torn { seed }).await
}
