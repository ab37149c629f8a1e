//! Recorded deliveries: the input of `replay`.

mod events;
mod files;
mod shapes;
mod values;

use std::collections::BTreeMap;

use anyhow::bail;
use uuid::Uuid;

pub(super) use self::files::read_all;

/// A delivery as GitHub sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedDelivery {
    pub(crate) event: String,
    pub(crate) guid: String,
    /// The time of delivery, if recorded; RFC 3339, so that texts sort as times do.
    pub(crate) delivered_at: Option<String>,
    pub(crate) payload: Vec<u8>,
}

/// The content of recordings.
#[derive(Debug, Default)]
pub(super) struct Recordings {
    pub(super) deliveries: Vec<RecordedDelivery>,
    /// Everything that is no delivery, by its kind.
    pub(super) left_out: BTreeMap<&'static str, LeftOut>,
    /// The places at which a delivery may be lost, such as a line that was cut off, with the reason.
    pub(super) damaged: Vec<String>,
}

/// Some things that are no delivery.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    pub(super) count: u64,
    /// The places of the first ones.
    pub(super) first: Vec<String>,
}

impl Recordings {
    /// The number of places that are named of one kind.
    const NAMED: usize = 3;

    fn leave_out(&mut self, kind: &'static str, place: impl FnOnce() -> String) {
        let left_out = self.left_out.entry(kind).or_default();
        left_out.count += 1;
        if left_out.first.len() < Self::NAMED {
            left_out.first.push(place());
        }
    }

    fn damage(&mut self, place: String) {
        self.damaged.push(place);
    }

    /// Returns a text for each kind of what is left out, with the places of the first ones on lines
    /// of their own.
    pub(super) fn remarks(&self) -> Vec<String> {
        let left_out = self
            .left_out
            .iter()
            .map(|(kind, LeftOut { count, first })| {
                let more = count - first.len() as u64;
                let more = (more > 0).then(|| format!("and {more} more"));
                let lines: Vec<_> = first.iter().cloned().chain(more).collect();
                format!("left out: {kind} ({count}):\n  {}", lines.join("\n  "))
            });
        left_out.collect()
    }

    /// Returns a line for each damaged place, and for each kind of what is left out.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let remarks = self.remarks().into_iter();
        let remarks = remarks.map(|remark| remark.replace("\n  ", " "));
        self.damaged.iter().cloned().chain(remarks)
    }
}

/// Derives the GUID of a payload without one: the same payload has the same GUID, so that a second
/// replay changes nothing.
fn guid_of(event: &str, payload: &[u8]) -> String {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"tallyhook:replayed-delivery");
    Uuid::new_v5(&Uuid::new_v5(&namespace, event.as_bytes()), payload).to_string()
}

/// Parses JSON lines, each of which has to be a delivery.
pub(crate) fn parse_lines(text: &str) -> anyhow::Result<Vec<RecordedDelivery>> {
    let mut found = Recordings::default();
    files::RecordingFile::new("the recording").read_text(text, None, &mut found);
    if let Some(problem) = found.problems().next() {
        bail!("{problem}");
    }
    Ok(found.deliveries)
}
