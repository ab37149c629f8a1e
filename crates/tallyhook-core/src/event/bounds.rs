//! GitHub's bounds: its longest texts, the form of a repository's name, and the times that can be.
//!
//! A payload beyond them is not of GitHub's making, or was made by a broken clock. The rest of it
//! counts. All of this is a function of the payload and of its receipt, so that the facts still do
//! not depend on the order of the deliveries.

use std::collections::BTreeSet;

use super::decode::Undecodable;
use super::{
    Event, Fact, FactKind, FetchedPullRequest, PullRequestEvent, PullRequestSnapshot, Repo,
    ReviewSnapshot, SnapshotMark,
};
use crate::github::types::{Account, Timestamp};

/// The longest texts, in characters.
const TITLE: usize = 256;
const BODY: usize = 65_536;
const LOGIN: usize = 39;
const REF: usize = 255;
/// A SHA-256, in hexadecimal.
const SHA: usize = 64;
const NAME: usize = 100;
/// Longer than the address of any pull request. A cut address would be another one.
const URL: usize = 1024;
/// The most labels of a pull request.
const LABELS: usize = 100;
/// The most requested accounts, requested teams or assignees of a pull request. GitHub allows less.
const REVIEWERS: usize = 100;
/// The most co-authors of a commit that are kept.
const CO_AUTHORS: usize = 20;

/// The year in which GitHub began.
const EARLIEST: Timestamp = Timestamp::clamped(1_199_145_600);
/// The seconds by which GitHub's clock may be ahead of ours.
const AHEAD: i64 = 24 * 60 * 60;

/// Cuts the texts of `event` at GitHub's limits.
///
/// # Errors
/// [`Undecodable::Shape`] for a repository whose name cannot be one.
pub(super) fn within_limits(mut event: Event) -> Result<Event, Undecodable> {
    match &mut event {
        Event::Push(push) => {
            cut(&mut push.git_ref, REF);
            cut_all([&mut push.before, &mut push.after], SHA);
            cut_actor(&mut push.actor);
        }
        Event::Repository(event) => {
            cut(&mut event.action, NAME);
        }
        Event::Installation(event) | Event::InstallationRepositories(event) => {
            cut(&mut event.action, NAME);
        }
        Event::Snapshot(fetched) => {
            cut_fetched(fetched);
        }
        _ => pull_request(&mut event).into_iter().for_each(cut_event),
    }
    if repos(&mut event).all(|repo| is_repository_name(&repo.name)) {
        return Ok(event);
    }
    let why = "`full_name` is not the name of a repository at GitHub";
    Err(Undecodable::Shape(why.to_owned()))
}

/// Returns whether `name` is `owner/name` as GitHub allows it. Accounts that an enterprise manages
/// have an underscore.
pub fn is_repository_name(name: &str) -> bool {
    let Some((owner, name)) = name.split_once('/') else {
        return false;
    };
    let has_only = |text: &str, others: &[u8]| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
        text.bytes().all(allowed)
    };
    (1..=LOGIN).contains(&owner.len())
        && has_only(owner, b"-_")
        && (1..=NAME).contains(&name.len())
        && has_only(name, b"-_.")
        && name != "."
        && name != ".."
}

/// Returns the event of a pull request inside, whichever webhook event it is from.
fn pull_request(event: &mut Event) -> Option<&mut PullRequestEvent> {
    match event {
        Event::PullRequest(event)
        | Event::PullRequestReview(event)
        | Event::PullRequestReviewComment(event)
        | Event::PullRequestReviewThread(event)
        | Event::IssueComment(event)
        | Event::MergeGroup(event) => Some(event),
        Event::Push(_)
        | Event::Repository(_)
        | Event::Installation(_)
        | Event::InstallationRepositories(_)
        | Event::Snapshot(_) => None,
    }
}

fn repos(event: &mut Event) -> Box<dyn Iterator<Item = &mut Repo> + '_> {
    match event {
        Event::Push(push) => Box::new(std::iter::once(&mut push.repo)),
        Event::Repository(event) => Box::new(std::iter::once(&mut event.repo)),
        Event::Snapshot(fetched) => Box::new(std::iter::once(&mut fetched.repo)),
        Event::Installation(event) | Event::InstallationRepositories(event) => {
            Box::new(event.gained.iter_mut().chain(&mut event.lost))
        }
        _ => Box::new(pull_request(event).into_iter().map(|event| &mut event.repo)),
    }
}

fn cut_event(event: &mut PullRequestEvent) {
    cut(&mut event.action, NAME);
    cut_actor(&mut event.actor);
    event.pull_request.iter_mut().for_each(cut_snapshot);
    event.facts.iter_mut().for_each(cut_fact);
    event.review.iter_mut().for_each(cut_review);
}

fn cut_snapshot(snapshot: &mut PullRequestSnapshot) {
    let conversation = &mut snapshot.conversation;
    let mut is_cut = cut_account(&mut snapshot.author);
    is_cut |= cut_all([&mut conversation.title], TITLE);
    is_cut |= cut_all([&mut conversation.body], BODY);
    is_cut |= conversation.labels.len() > LABELS;
    conversation.labels.truncate(LABELS);
    for label in &mut conversation.labels {
        is_cut |= cut(label, NAME);
    }
    conversation.html_url.take_if(|address| address.len() > URL);
    if let Some(branches) = &mut snapshot.branches {
        is_cut |= cut(&mut branches.base_ref, REF);
        is_cut |= cut(&mut branches.head_ref, REF);
        is_cut |= cut(&mut branches.head_sha, SHA);
    }
    if let Some(requested) = &mut snapshot.requested {
        cut_accounts(&mut requested.accounts);
        requested.teams.truncate(REVIEWERS);
        for team in &mut requested.teams {
            cut(&mut team.slug, NAME);
        }
    }
    if let Some(details) = &mut snapshot.details {
        cut_all([&mut details.merge_commit_sha], SHA);
        details.assignees.iter_mut().for_each(cut_accounts);
    }
    if is_cut {
        conversation.marks.insert(SnapshotMark::Truncated);
    }
}

fn cut_accounts(accounts: &mut Vec<Account>) {
    accounts.truncate(REVIEWERS);
    for account in accounts {
        cut_account(account);
    }
}

fn cut_fetched(fetched: &mut FetchedPullRequest) {
    cut_snapshot(&mut fetched.pull_request);
    fetched.timeline.iter_mut().for_each(cut_fact);
    fetched.reviews.iter_mut().for_each(cut_review);
    for commit in &mut fetched.commit_list {
        cut(&mut commit.sha, SHA);
        cut_actor(&mut commit.author);
        commit.co_authors.truncate(CO_AUTHORS);
        for address in &mut commit.co_authors {
            cut(address, TITLE);
        }
    }
    if let Some(state) = &mut fetched.merge_state {
        cut(&mut state.head_sha, SHA);
    }
}

fn cut_fact(fact: &mut Fact) {
    // The longest of them is a title.
    cut_all([&mut fact.detail], TITLE);
    cut_actor(&mut fact.actor);
}

fn cut_review(review: &mut ReviewSnapshot) {
    cut_account(&mut review.author);
    cut_all([&mut review.commit_id], SHA);
}

fn cut_actor(actor: &mut Option<Account>) {
    if let Some(actor) = actor {
        cut_account(actor);
    }
}

fn cut_account(account: &mut Account) -> bool {
    cut(&mut account.login, LOGIN)
}

fn cut_all<const N: usize>(texts: [&mut Option<String>; N], most: usize) -> bool {
    let cut = texts.into_iter().flatten().map(|text| cut(text, most));
    cut.fold(false, |any, is_cut| any | is_cut)
}

/// Returns whether anything was cut off.
fn cut(text: &mut String, most: usize) -> bool {
    // No text has more characters than bytes.
    let end = match text.len() > most {
        true => text.char_indices().nth(most).map(|(end, _)| end),
        false => None,
    };
    if let Some(end) = end {
        text.truncate(end);
        text.shrink_to_fit();
    }
    end.is_some()
}

/// Takes the times out of `event` that cannot be: before GitHub, or more than a day after its
/// receipt; and the end of a pull request before its creation.
///
/// A snapshot with such a time is marked. It never dates anything: its guard is the latest other
/// time in it, or the earliest of all, and it sets nothing that stays. The state of a merge, which
/// GitHub does not date, is dated by the receipt.
pub fn without_impossible_times(event: &mut Event, received_at: Timestamp) {
    let bounds = TimeBounds { received_at };
    for repo in repos(event) {
        if !bounds.contain(repo.seen_at) {
            repo.seen_at = Timestamp::clamped(0);
        }
    }
    match event {
        Event::Snapshot(fetched) => {
            bounds.apply(&mut fetched.pull_request);
            fetched.merge_state_at = fetched.merge_state.is_some().then_some(received_at);
            fetched.timeline.retain(|fact| bounds.contain(fact.at));
            fetched
                .reviews
                .retain(|review| bounds.contain(review.submitted_at));
        }
        _ => {
            if let Some(event) = pull_request(event) {
                bounds.apply_to_event(event);
            }
        }
    }
}

/// The times that a payload can have.
struct TimeBounds {
    received_at: Timestamp,
}

impl TimeBounds {
    fn contain(&self, at: Timestamp) -> bool {
        at >= EARLIEST && at.epoch() - self.received_at.epoch() <= AHEAD
    }

    fn apply_to_event(&self, event: &mut PullRequestEvent) {
        let updated_at = event.pull_request.as_ref().map(|seen| seen.updated_at);
        let created_at = event.pull_request.as_ref().map(|seen| seen.created_at);
        event
            .pull_request
            .iter_mut()
            .for_each(|seen| self.apply(seen));
        let is_end = |kind| matches!(kind, FactKind::Closed | FactKind::Merged);
        let before_creation =
            |fact: &Fact| is_end(fact.kind) && created_at.is_some_and(|created| fact.at < created);
        event
            .facts
            .retain(|fact| self.contain(fact.at) && !before_creation(fact));
        // An action without a time of its own happened at its payload's update.
        event.review.take_if(|review| {
            if !self.contain(review.submitted_at) {
                review.submitted_at = updated_at.unwrap_or(review.submitted_at);
            }
            review.dismissed_at.take_if(|at| !self.contain(*at));
            !self.contain(review.submitted_at)
        });
    }

    fn apply(&self, snapshot: &mut PullRequestSnapshot) {
        let talk = &mut snapshot.conversation;
        let created_at = Some(snapshot.created_at).filter(|at| self.contain(*at));
        let ended = |at: Option<Timestamp>| {
            at.filter(|at| self.contain(*at) && created_at.is_none_or(|created| *at >= created))
        };
        let (closed_at, merged_at) = (ended(talk.closed_at), ended(snapshot.merged_at));
        let updated_at = Some(snapshot.updated_at).filter(|at| self.contain(*at));
        if created_at.is_some()
            && updated_at.is_some()
            && (closed_at, merged_at) == (talk.closed_at, snapshot.merged_at)
        {
            return;
        }
        talk.marks.insert(SnapshotMark::ClockSkew);
        if snapshot.merged_at.take().is_some() {
            talk.marks.insert(SnapshotMark::UndatedMerge);
        }
        talk.closed_at = closed_at;
        let possible: BTreeSet<_> = [created_at, closed_at, merged_at]
            .into_iter()
            .flatten()
            .collect();
        let update = updated_at.or(possible.last().copied()).unwrap_or(EARLIEST);
        // No later than any genuine time of it but the creation itself, which therefore replaces it.
        let earliest = possible.first().copied().or(updated_at);
        snapshot.created_at = created_at.or(earliest).unwrap_or(self.received_at);
        snapshot.updated_at = update;
    }
}
