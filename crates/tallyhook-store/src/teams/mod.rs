//! Teams, their members, the rules by which people of GitHub are members, and invitations.

mod invitations;
mod members;
mod rules;
mod team;

pub use self::invitations::{
    AcceptedInvitation, InvitationId, InvitationOffer, InvitationOutcome, InvitationRecord,
    InvitedPerson, NewInvitation,
};
pub use self::members::{MemberAddition, MemberChange, MemberRecord, MemberSource, Membership};
pub use self::rules::{NewTeamRule, RuleAnswers, RuleId, RuleMemberships, TeamRule};
pub use self::team::{DEFAULT_TEAM, TeamId, TeamRecord};
