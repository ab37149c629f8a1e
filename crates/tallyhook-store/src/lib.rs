//! The store: deliveries, facts, outbox, notifications, tasks, people, tokens and the record of what was
//! asked of GitHub. All SQL of the workspace is in this crate.
//!
//! [`Store`] has a method for each use case; each is one atomic step. A folder holds an entity: its
//! types, its SQL, its rows. `database` runs one text of SQL on either kind of database; `sqlite`
//! and `postgres` hold connections, and an entity has files of those names where the dialects
//! differ for a reason.

#![warn(clippy::unwrap_used)]

mod account_logins;
mod apps;
mod audit;
mod changes;
mod columns;
mod condition;
mod connections;
mod credentials;
mod database;
mod deliveries;
mod error;
mod facts;
pub mod files;
mod flows;
mod github_host;
mod leader;
mod migrations;
mod notifications;
mod open;
mod outbox;
mod planted_leaks;
mod postgres;
mod pull_requests;
mod repository_names;
mod sealed;
mod sqlite;
mod store;
mod sync;
mod tasks;
mod team_repositories;
mod team_store;
mod teams;
mod teams_of_repositories;
mod tokens;
mod users;

pub use tallyhook_core::delivery::{DeliveryId, Lane, Moment};
pub use tallyhook_core::domain::recording::{
    BatchWrite, FinishedDelivery, PullRequestChange, PullRequestRecord, RepositoryObservation,
    StoredPullRequest, VersionConflict,
};

pub use self::apps::StoredApp;
pub use self::audit::{
    AuditActor, AuditActorKind, AuditEvent, AuditFilter, AuditResult, AuditScope, AuditTarget,
    CallEnd, CallFilter, CallOutcome, GithubCallRow, NewAuditEvent, NewCall, audited, describe_act,
};
pub use self::changes::{ChangeAudience, ChangeId, ChangeKind, ChangedThing, StoredChange};
pub use self::condition::{LOW_SPACE, NO_SPACE, StorageFault, StorageReport};
pub use self::connections::{EndedConnection, TeamConnection};
pub use self::credentials::{
    Credential, CredentialKind, CredentialState, NewCredential, NewRevocation, RefreshLease,
    RefreshedTokens, ReplacedTokens, Revocation, RevocationCounts, SealedTokens, TokenOwner,
};
pub use self::deliveries::{
    AcceptOutcome, ClaimedDeliveries, DELIVERIES_LOOKED_AT, DISCARDED, DeadLetterGroup,
    DeadLetterMatch, DeadLetterSelection, Delivery, DeliveryCounts, DeliveryFailure,
    DeliveryFilter, DeliveryState, ExhaustedDelivery, NO_REPOSITORY, NewDelivery, NewState,
    PendingDelivery, PurgeCounts, StoredBody, UnfinishedDelivery, portions,
};
pub use self::error::{DatabaseNotReady, DatabaseUrlError, Result, StoreError};
pub use self::flows::{Flow, FlowPurpose, NewFlow, TakenFlow};
pub use self::leader::{LEASE_DURATION, LeaderRole};
pub use self::notifications::{
    AttemptResult, ChannelBacklog, ChannelPause, ChannelRecord, ChannelState, DigestRepositories,
    NotificationAttempt, NotificationCounts, NotificationFilter, NotificationRow,
    NotificationState,
};
pub use self::open::{OpenMode, check_url, open};
pub use self::outbox::{
    ChannelDigest, DigestContent, DigestItem, EventId, EventSubject, OutboxEvent, OutboxListener,
    OutboxPayload, TaskChange, WorktreeKept,
};
#[cfg(feature = "planted-leaks")]
pub use self::planted_leaks::PlantedLeak;
pub use self::pull_requests::{
    AggregateFilter, CalendarUse, DetailFilter, FlowNumbers, LOOKED_AT, ListOrder, ListPlace,
    LoadFilter, LoadParty, OriginRow, PartyName, PullRequestFilter, PullRequestRow, ReviewLoad,
    SortKey, StateFilter, WaitingFilter, WaitingGroup, WaitingPartyTotal, WaitingTotals,
};
pub use self::sealed::{SealedValue, SealingKeyId};
pub use self::sqlite::{FileUse, file_use, sqlite_file};
pub use self::store::{DatabaseInfo, Store};
pub use self::sync::{
    BackfillCounts, MAX_RUN_ERRORS, PollerStats, PullRequestError, RepositoryCounts,
    RepositoryFilter, RepositoryGap, RunFilter, RunOptions, RunState, SyncOutcome, SyncRun,
    SyncRunId, SyncStatus, TrackedRepository, WatchCounts, WatchedPullRequest,
};
pub use self::tasks::{
    NewTask, PendingWork, Task, TaskCause, TaskEdit, TaskEvent, TaskFilter, TaskPlace, TaskRef,
    TaskUpdate,
};
pub use self::team_repositories::RepositoryTeams;
pub use self::team_store::TeamStore;
pub use self::teams::{
    AcceptedInvitation, DEFAULT_TEAM, InvitationId, InvitationOffer, InvitationOutcome,
    InvitationRecord, InvitedPerson, MemberAddition, MemberChange, MemberRecord, MemberSource,
    Membership, NewInvitation, NewTeamRule, RuleAnswers, RuleId, RuleMemberships, TeamId,
    TeamRecord, TeamRule,
};
pub use self::tokens::{
    AccessRole, ApiToken, NewSession, NewToken, SessionGrant, SessionHolder, SessionId,
    SessionOwner, SessionRecord, SessionTimes, TokenGrant, TokenHash, UsedCredential, UserGrant,
};
pub use self::users::{GithubUser, PersonName, UserId, UserRecord};
pub use tallyhook_core::domain::timings::PullRequestDurations;
