//! All calendars, and the repositories, teams and people that they are for.

use std::collections::BTreeMap;

use super::Calendar;
use crate::domain::waiting::Party;

/// The calendars of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calendars {
    calendars: BTreeMap<String, Calendar>,
    /// The calendar of repositories that have no other.
    default: Option<String>,
    /// By `owner/name` or `owner/*` in lower case.
    repositories: BTreeMap<String, String>,
    /// By slug in lower case.
    teams: BTreeMap<String, String>,
    /// By login in lower case.
    people: BTreeMap<String, String>,
}

/// The reason why a calendar cannot be assigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarAssignmentError {
    #[error("there is no calendar `{name}`{}", list_of(.known))]
    Unknown { name: String, known: Vec<String> },
    #[error(
        "`{0}` is there twice, and capital letters make no difference: leave it to one calendar"
    )]
    Twice(String),
}

fn list_of(names: &[String]) -> String {
    match names {
        [] => ": write a table [calendars.NAME]".to_owned(),
        names => format!(": the calendars are {}", names.join(", ")),
    }
}

impl Calendars {
    /// Returns calendars that are for nothing yet, except for `default`.
    ///
    /// # Errors
    /// If `default` is none of them.
    pub fn new(
        calendars: impl IntoIterator<Item = Calendar>,
        default: Option<&str>,
    ) -> Result<Self, CalendarAssignmentError> {
        let calendars = calendars.into_iter();
        let mut this = Self {
            calendars: calendars
                .map(|calendar| (calendar.name().to_owned(), calendar))
                .collect(),
            ..Self::default()
        };
        this.default = default.map(|name| this.known(name)).transpose()?;
        Ok(this)
    }

    /// Gives the repositories of `pattern`, which is `owner/name` or `owner/*`, a calendar.
    ///
    /// # Errors
    /// If there is no such calendar, or if the pattern has one.
    pub fn assign_repository(
        &mut self,
        pattern: &str,
        calendar: &str,
    ) -> Result<(), CalendarAssignmentError> {
        let calendar = self.known(calendar)?;
        assign(&mut self.repositories, pattern, calendar)
    }

    /// Gives a team, by its slug, a calendar.
    ///
    /// # Errors
    /// If there is no such calendar, or if the team has one.
    pub fn assign_team(
        &mut self,
        slug: &str,
        calendar: &str,
    ) -> Result<(), CalendarAssignmentError> {
        let calendar = self.known(calendar)?;
        assign(&mut self.teams, slug, calendar)
    }

    /// Gives a person, by login, a calendar.
    ///
    /// # Errors
    /// If there is no such calendar, or if the person has one.
    pub fn assign_person(
        &mut self,
        login: &str,
        calendar: &str,
    ) -> Result<(), CalendarAssignmentError> {
        let calendar = self.known(calendar)?;
        assign(&mut self.people, login, calendar)
    }

    /// Returns the calendar of a pull request's stages: the repository's own, else the one of its
    /// owner's repositories, else the default.
    pub fn of_repository(&self, name: &str) -> Option<&Calendar> {
        let name = name.to_ascii_lowercase();
        let of_owner = || {
            let (owner, _) = name.split_once('/')?;
            self.repositories.get(&format!("{owner}/*"))
        };
        let own = self.repositories.get(&name).or_else(of_owner);
        self.calendar(own.or(self.default.as_ref()))
    }

    /// Returns the calendar of a team by its slug; `None` if it has none of its own.
    pub fn of_team(&self, slug: &str) -> Option<&Calendar> {
        self.calendar(self.teams.get(&slug.to_ascii_lowercase()))
    }

    /// Returns the calendar of a person by login; `None` if it has none of its own.
    pub fn of_person(&self, login: &str) -> Option<&Calendar> {
        self.calendar(self.people.get(&login.to_ascii_lowercase()))
    }

    /// Returns the calendar of a reviewer's time: the person's or the team's own, else the one of
    /// the repository. The teams of a person are not known.
    pub fn of_reviewer(&self, party: &Party, repo: &str) -> Option<&Calendar> {
        let own = match party {
            Party::Account { login, .. } => self.of_person(login),
            Party::Team { slug, .. } => self.of_team(slug),
        };
        own.or_else(|| self.of_repository(repo))
    }

    /// Returns the calendar of that name.
    pub fn named(&self, name: &str) -> Option<&Calendar> {
        self.calendars.get(name)
    }

    /// Returns the calendar of repositories that have no other.
    pub fn default_calendar(&self) -> Option<&Calendar> {
        self.calendar(self.default.as_ref())
    }

    /// Returns all calendars by name.
    pub fn iter(&self) -> impl Iterator<Item = &Calendar> {
        self.calendars.values()
    }

    /// Returns the repositories, the teams and the people that the calendar of that name is for.
    pub fn assigned_to(&self, calendar: &str) -> [Vec<&str>; 3] {
        [&self.repositories, &self.teams, &self.people].map(|assigned| {
            let assigned = assigned.iter().filter(|(_, name)| *name == calendar);
            assigned.map(|(subject, _)| subject.as_str()).collect()
        })
    }

    pub fn is_empty(&self) -> bool {
        self.calendars.is_empty()
    }

    fn calendar(&self, name: Option<&String>) -> Option<&Calendar> {
        self.calendars.get(name?)
    }

    fn known(&self, name: &str) -> Result<String, CalendarAssignmentError> {
        match self.calendars.contains_key(name) {
            true => Ok(name.to_owned()),
            false => Err(CalendarAssignmentError::Unknown {
                name: name.to_owned(),
                known: self.calendars.keys().cloned().collect(),
            }),
        }
    }
}

fn assign(
    assigned: &mut BTreeMap<String, String>,
    key: &str,
    calendar: String,
) -> Result<(), CalendarAssignmentError> {
    match assigned.insert(key.to_ascii_lowercase(), calendar) {
        Some(_) => Err(CalendarAssignmentError::Twice(key.to_owned())),
        None => Ok(()),
    }
}
