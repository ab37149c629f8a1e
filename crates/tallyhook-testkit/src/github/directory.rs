//! The people and organizations of the fake GitHub, and the tokens that are a person's.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::FakeGithub;
use super::access::Rights;
use crate::payloads::Account;

/// Everybody with an account, and the tokens that were issued to them.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) people: Vec<Person>,
    pub(super) organizations: Vec<FakeOrganization>,
    pub(super) tokens: Vec<PersonToken>,
    /// The number of texts that were made, so that each is another.
    pub(super) made: u64,
}

/// A person with an account.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) account: Account,
    pub(super) has_verified_email: bool,
}

/// An organization with its members and rules.
pub struct FakeOrganization {
    pub account: Account,
    /// Members and invited people, by login.
    pub members: Vec<FakeMembership>,
    pub teams: Vec<FakeTeam>,
    /// It wants each token to be authorized for single sign-on.
    pub wants_sso: bool,
    /// It admits certain addresses, and ours is none of them.
    pub has_ip_allow_list: bool,
    /// It has not approved any OAuth App.
    pub restricts_oauth_apps: bool,
}

/// A team with its members.
pub struct FakeTeam {
    pub slug: String,
    pub members: Vec<FakeMembership>,
}

/// A membership of a person in an organization or a team.
#[derive(Clone, Debug)]
pub struct FakeMembership {
    pub login: String,
    /// `active` or `pending`.
    pub state: &'static str,
    pub role: &'static str,
}

/// A token of a person, with the refresh token that belongs to it.
pub(super) struct PersonToken {
    pub(super) token: String,
    /// The application that it was issued to; `None` of one that the person made.
    pub(super) client_id: Option<String>,
    pub(super) user: i64,
    /// `None` of a fine-grained token, of which GitHub names none.
    pub(super) scopes: Option<Vec<String>>,
    pub(super) issued_at: DateTime<Utc>,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) refresh: Option<RefreshToken>,
    /// The organizations that it is authorized for.
    pub(super) sso: BTreeSet<String>,
}

pub(super) struct RefreshToken {
    pub(super) token: String,
    pub(super) expires_at: DateTime<Utc>,
}

impl PersonToken {
    pub(super) fn is_valid_at(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

impl FakeOrganization {
    fn new(account: Account) -> Self {
        Self {
            account,
            members: Vec::new(),
            teams: Vec::new(),
            wants_sso: false,
            has_ip_allow_list: false,
            restricts_oauth_apps: false,
        }
    }

    /// Adds a membership of the organization, or replaces it.
    pub fn seat(&mut self, login: &str, state: &'static str, role: &'static str) {
        seat(&mut self.members, login, state, role);
    }

    /// Adds a membership of a team, which is created if it is missing.
    pub fn seat_in_team(&mut self, team: &str, login: &str, state: &'static str) {
        if !self.teams.iter().any(|known| known.slug == team) {
            self.teams.push(FakeTeam {
                slug: team.to_owned(),
                members: Vec::new(),
            });
        }
        let team = self.teams.iter_mut().find(|known| known.slug == team);
        seat(&mut team.unwrap().members, login, state, "member");
    }
}

fn seat(members: &mut Vec<FakeMembership>, login: &str, state: &'static str, role: &'static str) {
    members.retain(|known| known.login != login);
    members.push(FakeMembership {
        login: login.to_owned(),
        state,
        role,
    });
}

impl Directory {
    pub(super) fn person(&self, login: &str) -> Option<&Person> {
        let is_it = |person: &&Person| person.account.login.eq_ignore_ascii_case(login);
        self.people.iter().find(is_it)
    }

    pub(super) fn person_by_id(&self, id: i64) -> Option<&Person> {
        self.people.iter().find(|person| person.account.id == id)
    }

    pub(super) fn organization(&self, login: &str) -> Option<&FakeOrganization> {
        let is_it = |known: &&FakeOrganization| known.account.login.eq_ignore_ascii_case(login);
        self.organizations.iter().find(is_it)
    }

    pub(super) fn token(&self, token: &str) -> Option<&PersonToken> {
        self.tokens.iter().find(|known| known.token == token)
    }

    /// Returns a text that was not made before.
    pub(super) fn make(&mut self, prefix: &str, length: usize) -> String {
        use sha2::{Digest, Sha256};
        self.made += 1;
        let digest = hex::encode(Sha256::digest(format!("{prefix}{}", self.made)));
        format!("{prefix}{}", &digest.repeat(2)[..length])
    }
}

impl FakeGithub {
    /// Adds a person.
    pub fn add_person(&self, id: i64, login: &str) {
        self.state().directory.people.push(Person {
            account: Account::user(id, login),
            has_verified_email: true,
        });
    }

    /// Gives a person another login. The id stays, and the former login is free for others.
    ///
    /// # Panics
    /// If there is no such person.
    pub fn rename_person(&self, from: &str, to: &str) {
        let mut state = self.state();
        let person = state
            .directory
            .people
            .iter_mut()
            .find(|person| person.account.login == from);
        to.clone_into(&mut person.unwrap().account.login);
    }

    /// Sets the state of a person's e-mail address.
    ///
    /// # Panics
    /// If there is no such person.
    pub fn verify_email(&self, login: &str, is_verified: bool) {
        let mut state = self.state();
        let person = state
            .directory
            .people
            .iter_mut()
            .find(|person| person.account.login == login);
        person.unwrap().has_verified_email = is_verified;
    }

    /// Adds an organization.
    pub fn add_organization(&self, id: i64, login: &str) {
        let account = Account::organization(id, login);
        self.state()
            .directory
            .organizations
            .push(FakeOrganization::new(account));
    }

    /// Reads or changes an organization.
    ///
    /// # Panics
    /// If there is no such organization.
    pub fn organization<T>(&self, login: &str, with: impl FnOnce(&mut FakeOrganization) -> T) -> T {
        let mut state = self.state();
        let organization = state
            .directory
            .organizations
            .iter_mut()
            .find(|known| known.account.login == login);
        with(organization.unwrap())
    }

    /// Gives a person a token of their own making: a classic one with these scopes, or a
    /// fine-grained one without.
    ///
    /// # Panics
    /// If there is no such person.
    pub fn give_to(&self, login: &str, token: &str, scopes: Option<&[&str]>) {
        let mut state = self.state();
        let (user, now) = (
            state.directory.person(login).unwrap().account.id,
            state.now(),
        );
        let rights = if scopes.is_some() {
            Rights::Admin
        } else {
            Rights::FineGrained
        };
        state.access.give(token, rights);
        let scopes = scopes.map(|scopes| scopes.iter().map(|scope| (*scope).to_owned()).collect());
        state.directory.tokens.push(PersonToken {
            token: token.to_owned(),
            client_id: None,
            user,
            scopes,
            issued_at: now,
            expires_at: None,
            refresh: None,
            sso: BTreeSet::new(),
        });
    }

    /// Authorizes a token for an organization's single sign-on, as its page does.
    ///
    /// # Panics
    /// If the token was never issued to a person.
    pub fn authorize_sso(&self, token: &str, organization: &str) {
        let mut state = self.state();
        let known = state
            .directory
            .tokens
            .iter_mut()
            .find(|known| known.token == token);
        known.unwrap().sso.insert(organization.to_owned());
    }

    /// Returns the tokens of people that are valid now, the oldest first.
    pub fn tokens_of(&self, login: &str) -> Vec<String> {
        let state = self.state();
        let (now, directory) = (state.now(), &state.directory);
        let user = directory.person(login).map(|person| person.account.id);
        let tokens = directory.tokens.iter();
        tokens
            .filter(|token| Some(token.user) == user && token.is_valid_at(now))
            .map(|token| token.token.clone())
            .collect()
    }
}
