//! Random histories of many pull requests, the same for the same seed.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tallyhook_core::github::types::Timestamp;

use super::acts::Act;
use super::world::{Opening, Reviewer, Webhook, World};
use crate::payloads::{Account, HeadRepo, Team};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
/// The time between the first pull request and the end.
const SPAN: i64 = 60 * 24 * HOUR;

/// The parameters of a generated history.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    pub seed: u64,
    pub pulls: usize,
    /// True if several things may happen to a pull request within a second.
    pub ties: bool,
    /// The end of the history.
    pub until: Timestamp,
}

impl World {
    /// Generates the history of pull requests of a repository. Returns all webhooks about them, in
    /// order of time.
    pub fn grow(&mut self, repository: &str, growth: Growth) -> Vec<Webhook> {
        let mut random = StdRng::seed_from_u64(growth.seed);
        let end = growth.until.epoch();
        let mut births: Vec<i64> = (0..growth.pulls)
            .map(|_| random.random_range(end - SPAN..end - HOUR))
            .collect();
        births.sort_unstable();
        let mut webhooks: Vec<Webhook> = births
            .into_iter()
            .flat_map(|at| self.live(repository, at, growth, &mut random))
            .collect();
        webhooks.sort_by_key(|webhook| webhook.at);
        webhooks
    }

    /// Adds one more random act: opens a pull request, or acts on one of the newest.
    pub fn go_on(&mut self, repository: &str, at: Timestamp, random: &mut StdRng) -> Vec<Webhook> {
        const NEWEST: usize = 20;
        let people = people();
        let numbers: Vec<_> = self
            .repository(repository)
            .pulls
            .keys()
            .rev()
            .take(NEWEST)
            .copied()
            .collect();
        let Some(&number) = numbers.choose(random).filter(|_| random.random_bool(0.9)) else {
            let author = people.choose(random).unwrap();
            return self.begin(repository, author, at, random).1;
        };
        let by = people.choose(random).unwrap();
        let act = self.next_act(repository, number, &people, random);
        self.act(repository, number, by, at, &act)
    }

    fn live(
        &mut self,
        repository: &str,
        born: i64,
        growth: Growth,
        random: &mut StdRng,
    ) -> Vec<Webhook> {
        let people = people();
        let author = people.choose(random).unwrap();
        let (number, mut webhooks) =
            self.begin(repository, author, Timestamp::clamped(born), random);
        let mut now = born;
        for _ in 0..random.random_range(0..14) {
            now += pause(growth.ties, random);
            if now >= growth.until.epoch() {
                break;
            }
            let by = people.choose(random).unwrap();
            let act = self.next_act(repository, number, &people, random);
            let by = if is_for_the_author(&act) { author } else { by };
            webhooks.extend(self.act(repository, number, by, Timestamp::clamped(now), &act));
        }
        webhooks
    }

    fn begin(
        &mut self,
        repository: &str,
        author: &Account,
        at: Timestamp,
        random: &mut StdRng,
    ) -> (i64, Vec<Webhook>) {
        let born = at.epoch();
        let title = format!("Change number {}", random.random_range(0..1000));
        let commits: Vec<_> = (0..random.random_range(1..4))
            .map(|_| {
                let written = born - random.random_range(0..72 * HOUR);
                let committed = written + random.random_range(0..HOUR).min(born - written);
                (Timestamp::clamped(written), Timestamp::clamped(committed))
            })
            .collect();
        let opening = Opening {
            author,
            title: &title,
            branch: "topic",
            head_repo: match random.random_range(0..10) {
                0 => HeadRepo::Deleted {
                    owner: author.clone(),
                },
                1 => HeadRepo::Fork {
                    owner: author.clone(),
                    id: 1_900_000_777,
                },
                _ => HeadRepo::Same,
            },
            draft: random.random_bool(0.3),
            at,
            commits: &commits,
        };
        self.open(repository, &opening)
    }

    fn next_act(
        &mut self,
        repository: &str,
        number: i64,
        people: &[Account],
        random: &mut StdRng,
    ) -> Act {
        let pull = &self.repository(repository).pulls[&number];
        let review = pull.reviews.choose(random).map_or(0, |review| review.id);
        let account = people[..4].choose(random).unwrap().clone();
        let team = Reviewer::Team(Team {
            id: 8_100_001,
            slug: "reviewers".to_owned(),
        });
        let asked = if random.random_bool(0.2) {
            team
        } else {
            Reviewer::Account(account)
        };
        let label = ["bug", "feature", "chore"].choose(random).unwrap();
        let acts = [
            (2, Act::ConvertToDraft),
            (4, Act::ReadyForReview),
            (4, Act::Push),
            (1, Act::ForcePush),
            (4, Act::Review("approved")),
            (3, Act::Review("changes_requested")),
            (3, Act::Review("commented")),
            (2, Act::CommentOnLine),
            (2, Act::Dismiss(review)),
            (3, Act::Comment),
            (1, Act::Label((*label).to_owned())),
            (1, Act::Unlabel((*label).to_owned())),
            (
                1,
                Act::Retitle(format!("Change renamed {}", random.random_range(0..1000))),
            ),
            (2, Act::Request(asked.clone())),
            (1, Act::Unrequest(asked)),
            (1, Act::Enqueue),
            (1, Act::Dequeue("MERGE_CONFLICT")),
            (2, Act::Close),
            (3, Act::Reopen),
            (3, Act::Merge),
        ];
        acts.choose_weighted(random, |(weight, _)| *weight)
            .unwrap()
            .1
            .clone()
    }
}

/// Returns the seconds until the next act: often 0 or 1 with ties, otherwise enough for a late
/// `updated_at`.
fn pause(ties: bool, random: &mut StdRng) -> i64 {
    match random.random_range(0..6) {
        0 if ties => 0,
        1 if ties => 1,
        0..4 => random.random_range(5..HOUR),
        _ => random.random_range(HOUR..48 * HOUR),
    }
}

/// Returns four members, an outsider, a bot, and the ghost of a deleted account.
pub fn people() -> Vec<Account> {
    let mut people: Vec<_> = (1..5)
        .map(|number| Account::user(900_000_010 + number, &format!("member-{number}")))
        .collect();
    people.push(Account::contributor(900_000_020, "outsider"));
    people.push(Account::bot(900_000_030, "updater"));
    people.push(Account::ghost());
    people
}

fn is_for_the_author(act: &Act) -> bool {
    matches!(
        act,
        Act::ConvertToDraft
            | Act::ReadyForReview
            | Act::Push
            | Act::ForcePush
            | Act::Retitle(_)
            | Act::Request(_)
    )
}
