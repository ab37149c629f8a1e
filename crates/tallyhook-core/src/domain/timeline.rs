//! The facts of a pull request in their order.

use std::ops::Bound;

use strum::VariantArray;

use super::growing::GrowingMap;
use crate::event::{Fact, FactKind, SubjectKind};
use crate::github::types::{Account, Timestamp};

/// The facts of a pull request, each once, with their actors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline(GrowingMap<FactKey, Option<Account>>);

/// A fact of a timeline, as far as walks over many facts need it.
#[derive(Clone, Copy, Debug)]
pub(super) struct FactRef<'a> {
    pub(super) at: Timestamp,
    pub(super) subject: Option<i64>,
    pub(super) subject_kind: Option<SubjectKind>,
    pub(super) detail: Option<&'a str>,
    pub(super) actor: Option<&'a Account>,
}

/// The identity of a fact. By kind first, since most questions are about one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FactKey {
    kind: FactKind,
    at: Timestamp,
    subject: Option<i64>,
    subject_kind: Option<SubjectKind>,
    detail: Option<String>,
}

impl FactKey {
    /// Returns a key that is before all others of `kind`.
    const fn first_of(kind: FactKind) -> Self {
        Self {
            kind,
            at: Timestamp::clamped(i64::MIN),
            subject: None,
            subject_kind: None,
            detail: None,
        }
    }

    fn split(fact: Fact) -> (Self, Option<Account>) {
        let key = Self {
            kind: fact.kind,
            at: fact.at,
            subject: fact.subject,
            subject_kind: fact.subject_kind,
            detail: fact.detail,
        };
        (key, fact.actor)
    }

    /// Returns whether an earlier version stored the fact: it lacks what identifies it by now, the
    /// kind of a requested reviewer, or the node id of a thread.
    const fn is_partial(&self) -> bool {
        match self.kind {
            FactKind::ReviewRequested | FactKind::ReviewRequestRemoved => {
                self.subject.is_some() && self.subject_kind.is_none()
            }
            FactKind::ThreadResolved | FactKind::ThreadUnresolved => self.detail.is_none(),
            _ => false,
        }
    }

    /// Returns a key that is before all others of the same kind, time and subject.
    fn first_of_subject(&self) -> Self {
        Self {
            subject_kind: None,
            detail: None,
            ..self.clone()
        }
    }

    fn is_about_the_same(&self, other: &Self) -> bool {
        (self.kind, self.at, self.subject) == (other.kind, other.at, other.subject)
    }

    fn fact(&self, actor: Option<&Account>) -> Fact {
        Fact {
            at: self.at,
            kind: self.kind,
            subject: self.subject,
            subject_kind: self.subject_kind,
            detail: self.detail.clone(),
            actor: actor.cloned(),
        }
    }
}

impl Timeline {
    /// Returns a timeline of the facts that the segments of a stored pull request have.
    pub fn of_segments(facts: impl IntoIterator<Item = Fact>) -> Self {
        Self(GrowingMap::of_segments(
            facts.into_iter().map(FactKey::split),
        ))
    }

    /// Merges a fact; for one that is there already only its actor counts. Returns whether that
    /// changed the timeline.
    pub fn add(&mut self, fact: Fact) -> bool {
        let (key, actor) = FactKey::split(fact);
        let may_be_partial = matches!(
            key.kind,
            FactKind::ReviewRequested
                | FactKind::ReviewRequestRemoved
                | FactKind::ThreadResolved
                | FactKind::ThreadUnresolved
        );
        match may_be_partial {
            true => self.add_identified(key, actor),
            false => self.0.join(key, actor),
        }
    }

    /// Merges a fact that an earlier version may have stored without all that identifies it: such a
    /// one stays only while there is no other, in whichever order they are added.
    fn add_identified(&mut self, key: FactKey, actor: Option<Account>) -> bool {
        let alike = self.0.range(key.first_of_subject()..);
        let alike = alike.take_while(|(known, _)| known.is_about_the_same(&key));
        let (partial, identified): (Vec<_>, Vec<_>) = alike
            .map(|(known, _)| known)
            .partition(|known| known.is_partial());
        if key.is_partial() && !identified.is_empty() {
            return false;
        }
        let mut changed = false;
        if !key.is_partial() && !partial.is_empty() {
            let partial: Vec<_> = partial.into_iter().cloned().collect();
            self.0.retain(|known| !partial.contains(known));
            changed = true;
        }
        changed | self.0.join(key, actor)
    }

    /// Returns whether it has requests of reviewers whose kind is not known.
    pub fn has_partial_requests(&self) -> bool {
        [FactKind::ReviewRequested, FactKind::ReviewRequestRemoved]
            .into_iter()
            .any(|kind| self.of(kind).any(|(key, _)| key.is_partial()))
    }

    /// Drops the facts before `at` that GitHub's timeline covers.
    pub(super) fn cover_until(&mut self, at: Timestamp) {
        self.0
            .retain(|fact| fact.at >= at || !fact.kind.is_fetched());
    }

    pub(super) fn recent_len(&self) -> usize {
        self.0.recent_len()
    }

    pub(super) const fn extends_segments(&self) -> bool {
        self.0.extends_segments()
    }

    pub(super) fn leave_segments(&mut self) {
        self.0.leave_segments();
    }

    pub(super) fn stored(&mut self, as_segment: bool) {
        self.0.stored(as_segment);
    }

    /// Returns the facts by time, those of one second in the order of [`FactKind`].
    pub fn iter(&self) -> impl Iterator<Item = Fact> + '_ {
        by_time(self.0.iter())
    }

    /// Returns the facts that no segment has, in the same order.
    pub fn recent(&self) -> impl Iterator<Item = Fact> + '_ {
        by_time(self.0.recent())
    }

    /// Returns the times of all facts of `kind`, earliest first.
    pub fn times_of(&self, kind: FactKind) -> impl DoubleEndedIterator<Item = Timestamp> + '_ {
        self.of(kind).map(|(key, _)| key.at)
    }

    /// Returns time, subject and actor of each fact of `kind`, earliest first.
    pub fn acts(
        &self,
        kind: FactKind,
    ) -> impl Iterator<Item = (Timestamp, Option<i64>, Option<&Account>)> + '_ {
        self.of(kind)
            .map(|(key, actor)| (key.at, key.subject, actor.as_ref()))
    }

    /// Returns the facts of `kind`, earliest first.
    pub(super) fn facts(&self, kind: FactKind) -> impl Iterator<Item = FactRef<'_>> {
        self.of(kind).map(|(key, actor)| FactRef {
            at: key.at,
            subject: key.subject,
            subject_kind: key.subject_kind,
            detail: key.detail.as_deref(),
            actor: actor.as_ref(),
        })
    }

    /// Returns whether it was opened as a draft, or `None` if the opening itself is unknown.
    pub fn opened_as_draft(&self) -> Option<bool> {
        let (opened, _) = self.of(FactKind::Opened).next()?;
        Some(opened.detail.is_some())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(
        &self,
        kind: FactKind,
    ) -> impl DoubleEndedIterator<Item = (&FactKey, &Option<Account>)> + '_ {
        let after = FactKind::VARIANTS.get(kind as usize + 1);
        let end = after.map_or(Bound::Unbounded, |after| {
            Bound::Excluded(FactKey::first_of(*after))
        });
        self.0
            .range((Bound::Included(FactKey::first_of(kind)), end))
    }
}

fn by_time<'a>(
    facts: impl Iterator<Item = (&'a FactKey, &'a Option<Account>)>,
) -> impl Iterator<Item = Fact> + 'a {
    let mut facts: Vec<_> = facts.collect();
    facts.sort_by_key(|(key, _)| (key.at, *key));
    facts
        .into_iter()
        .map(|(key, actor)| key.fact(actor.as_ref()))
}

impl Extend<Fact> for Timeline {
    fn extend<I: IntoIterator<Item = Fact>>(&mut self, facts: I) {
        for fact in facts {
            self.add(fact);
        }
    }
}

impl FromIterator<Fact> for Timeline {
    fn from_iter<I: IntoIterator<Item = Fact>>(facts: I) -> Self {
        let mut timeline = Self::default();
        timeline.extend(facts);
        timeline
    }
}
