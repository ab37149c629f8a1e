//! Teams: members, rules, invitations, and the rights of people and of the tokens that they make.

use futures_util::future::join_all;
use tallyhook_store::{
    AcceptedInvitation, AccessRole, DEFAULT_TEAM, GithubUser, InvitationOutcome, InvitedPerson,
    MemberAddition, MemberChange, MemberSource, NewInvitation, NewSession, NewTeamRule, NewToken,
    RuleMemberships, SessionHolder, SessionOwner, SessionTimes, Store, TeamId, UserId,
};

use super::{later, now, open};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    team_has_a_slug_of_its_own,
    last_admin_of_a_team_stays,
    last_of_two_admins_who_remove_each_other_at_once_stays,
    token_has_at_most_the_role_that_its_maker_has_now,
    name_of_a_token_is_unique_within_its_team,
    session_of_a_person_has_its_teams_and_ends_with_the_account,
    invitation_is_used_once_by_its_person_and_within_its_time,
    invitation_has_no_force_once_its_inviter_is_no_admin,
    invitation_of_many_concurrent_uses_has_one,
    link_signs_in_a_person_without_an_account_at_github,
    rules_give_and_take_memberships_and_leave_those_of_others,
    rules_that_stay_keep_their_ids_and_the_last_one_takes_its_members,
}

const TEAM: TeamId = DEFAULT_TEAM.0;

/// Stores a person with an account at GitHub.
async fn person(store: &Store, id: i64, login: &str) -> UserId {
    let account = GithubUser {
        id,
        login,
        name: None,
        avatar_url: None,
    };
    let user = store.record_github_user(&account, now()).await.unwrap();
    user.unwrap()
}

async fn member(store: &Store, team: TeamId, id: i64, role: AccessRole) -> UserId {
    let user = person(store, id, &format!("login-{id}")).await;
    let added = store.add_member(team, user, role, now()).await.unwrap();
    assert_eq!(added, MemberAddition::Added);
    user
}

async fn roles(store: &Store, team: TeamId) -> Vec<(UserId, AccessRole)> {
    let members = store.members(team).await.unwrap().into_iter();
    members
        .map(|member| (member.person.id, member.role))
        .collect()
}

async fn disable(store: &Store, user: UserId) {
    let disabled = store.set_user_disabled(user, Some(now())).await;
    assert!(disabled.unwrap());
}

async fn team_has_a_slug_of_its_own(database: Database) {
    let store = open(&database).await;
    assert_eq!(store.create_team("default").await.unwrap(), None);
    let made = join_all((0..8).map(|place| {
        let slug = format!("team-{}", place % 4);
        let store = &store;
        async move { store.create_team(&slug).await.unwrap() }
    }));
    let made: Vec<_> = made.await.into_iter().flatten().collect();
    assert_eq!(made.len(), 4, "each slug once: {made:?}");
    let teams = store.teams().await.unwrap();
    let slugs: Vec<_> = teams.iter().map(|team| team.name.as_str()).collect();
    assert_eq!(slugs, ["default", "team-0", "team-1", "team-2", "team-3"]);
    let found = store.team_of_slug("team-2").await.unwrap();
    assert!(found.is_some_and(|found| made.contains(&found)));
    assert_eq!(store.team_of_slug("Team-2").await.unwrap(), None);
}

async fn last_admin_of_a_team_stays(database: Database) {
    use AccessRole::{Admin, Member, Viewer};
    let store = open(&database).await;
    let other = store.create_team("other").await.unwrap().unwrap();
    let admin = member(&store, TEAM, 1, Admin).await;
    let viewer = member(&store, TEAM, 2, Viewer).await;
    member(&store, other, 3, Admin).await;
    let remove = async |user| store.remove_member(TEAM, user).await.unwrap();
    let set = async |user, role| store.set_member_role(TEAM, user, role).await.unwrap();
    assert_eq!(remove(admin).await, MemberChange::LastAdmin);
    assert_eq!(set(admin, Member).await, MemberChange::LastAdmin);
    assert_eq!(set(admin, Admin).await, MemberChange::Done);
    assert_eq!(remove(UserId(999)).await, MemberChange::NotMember);
    assert_eq!(
        roles(&store, TEAM).await,
        [(admin, Admin), (viewer, Viewer)]
    );
    // An admin whose account is disabled cannot act for the team.
    assert_eq!(set(viewer, Admin).await, MemberChange::Done);
    disable(&store, viewer).await;
    assert_eq!(remove(admin).await, MemberChange::LastAdmin);
    let second = member(&store, TEAM, 4, Admin).await;
    assert_eq!(remove(admin).await, MemberChange::Done);
    assert_eq!(remove(second).await, MemberChange::LastAdmin);
    let added = store.add_member(TEAM, second, Viewer, now()).await.unwrap();
    assert_eq!(added, MemberAddition::IsMember);
    let added = store.add_member(TEAM, UserId(999), Viewer, now()).await;
    assert_eq!(added.unwrap(), MemberAddition::Unknown);
}

async fn last_of_two_admins_who_remove_each_other_at_once_stays(database: Database) {
    let store = open(&database).await;
    for round in 0..10 {
        let slug = format!("round-{round}");
        let team = store.create_team(&slug).await.unwrap().unwrap();
        let one = member(&store, team, 100 + round, AccessRole::Admin).await;
        let two = member(&store, team, 200 + round, AccessRole::Admin).await;
        let changes = tokio::join!(
            store.remove_member(team, one),
            store.set_member_role(team, two, AccessRole::Viewer)
        );
        let done = [changes.0.unwrap(), changes.1.unwrap()];
        let refused = done
            .iter()
            .filter(|change| **change == MemberChange::LastAdmin);
        assert_eq!(refused.count(), 1, "{done:?}");
    }
}

fn token<'a>(team: TeamId, name: &'a str, hash: &'a [u8; 32], by: Option<UserId>) -> NewToken<'a> {
    NewToken {
        name,
        hash,
        team,
        role: AccessRole::Admin,
        login: None,
        created_by: by,
        created_at: now(),
        expires_at: None,
    }
}

async fn token_has_at_most_the_role_that_its_maker_has_now(database: Database) {
    use AccessRole::{Admin, Member, Viewer};
    let store = open(&database).await;
    let maker = member(&store, TEAM, 1, Admin).await;
    member(&store, TEAM, 2, Admin).await;
    let new = token(TEAM, "ci", &[1; 32], Some(maker));
    assert!(store.create_token(&new).await.unwrap());
    let grant = async || store.token_grant(&[1; 32], now()).await.unwrap();
    let role = async || grant().await.map(|grant| grant.role);
    let found = grant().await.unwrap();
    assert_eq!((found.role, found.maker.unwrap().id), (Admin, maker));
    assert_eq!(found.login.as_deref(), Some("login-1"));
    let set = async |role| store.set_member_role(TEAM, maker, role).await.unwrap();
    for (now, expected) in [(Viewer, Viewer), (Member, Member), (Admin, Admin)] {
        assert_eq!(set(now).await, MemberChange::Done);
        assert_eq!(role().await, Some(expected));
    }
    disable(&store, maker).await;
    assert_eq!(role().await, None, "the maker is disabled");
    assert!(store.set_user_disabled(maker, None).await.unwrap());
    assert_eq!(role().await, Some(Admin));
    store.remove_member(TEAM, maker).await.unwrap();
    assert_eq!(role().await, None, "the maker has left");
    let again = store.add_member(TEAM, maker, Viewer, now()).await.unwrap();
    assert_eq!(again, MemberAddition::Added);
    assert_eq!(role().await, Some(Viewer));
    let listed = store.tokens(Some(TEAM)).await.unwrap().remove(0);
    assert_eq!((listed.role, listed.created_by.unwrap().id), (Admin, maker));
}

async fn name_of_a_token_is_unique_within_its_team(database: Database) {
    let store = open(&database).await;
    let other = store.create_team("other").await.unwrap().unwrap();
    let create = async |team, hash: &[u8; 32]| {
        store
            .create_token(&token(team, "ci", hash, None))
            .await
            .unwrap()
    };
    assert!(create(TEAM, &[1; 32]).await && create(other, &[2; 32]).await);
    assert!(!create(TEAM, &[3; 32]).await && !create(other, &[4; 32]).await);
    // A revoked name is free again for its own team alone.
    assert!(store.revoke_token(other, "ci", now()).await.unwrap());
    let is_valid = async |hash| store.token_grant(hash, now()).await.unwrap().is_some();
    assert!(is_valid(&[1; 32]).await && !is_valid(&[2; 32]).await);
    assert!(!create(TEAM, &[5; 32]).await && create(other, &[6; 32]).await);
    let grant = store.token_grant(&[6; 32], now()).await.unwrap().unwrap();
    assert_eq!((grant.team, &*grant.team_name), (other, "other"));
    assert!(!grant.is_only_team);
}

async fn session_of_a_person_has_its_teams_and_ends_with_the_account(database: Database) {
    let store = open(&database).await;
    let user = member(&store, TEAM, 1, AccessRole::Member).await;
    let times = SessionTimes {
        now: now(),
        idle_since: later(-100),
    };
    let owner = SessionOwner::Person(user);
    for hash in [[1; 32], [2; 32]] {
        let new = NewSession {
            hash: &hash,
            owner,
            team: None,
            expires_at: later(1000),
            agent: None,
            replaces: None,
        };
        store.start_session(&new, times).await.unwrap();
    }
    let grant = async || store.session_grant(&[1; 32], times).await.unwrap();
    let rights = async || match grant().await.unwrap().holder {
        SessionHolder::Person(rights) => rights,
        SessionHolder::Token { .. } => panic!("it is of a person"),
    };
    let teams = async || {
        let rights = rights().await;
        let teams = rights.memberships.into_iter();
        let teams: Vec<_> = teams.map(|known| (known.team_name, known.role)).collect();
        (teams, rights.is_only_team)
    };
    let of = |name: &str, role| (name.to_owned(), role);
    let first = of("default", AccessRole::Member);
    assert_eq!(teams().await, (vec![first.clone()], true));
    let apps = store.create_team("apps").await.unwrap().unwrap();
    let added = store.add_member(apps, user, AccessRole::Admin, now()).await;
    assert_eq!(added.unwrap(), MemberAddition::Added);
    let both = vec![of("apps", AccessRole::Admin), first];
    assert_eq!(teams().await, (both, false));
    let found = grant().await.unwrap();
    assert_eq!(found.team, None);
    store.choose_team(found.id, apps).await.unwrap();
    assert_eq!(grant().await.unwrap().team, Some(apps));
    disable(&store, user).await;
    assert_eq!(grant().await, None);
    let account = GithubUser {
        id: 1,
        login: "login-1",
        name: None,
        avatar_url: None,
    };
    let again = store.record_github_user(&account, now()).await.unwrap();
    assert_eq!(again, None, "who is disabled does not sign in");
    assert_eq!(store.sessions(&owner, times).await.unwrap(), []);
    assert!(store.set_user_disabled(user, None).await.unwrap());
    assert_eq!(grant().await, None, "the session has ended");
    assert!(!store.set_user_disabled(UserId(99), None).await.unwrap());
}

fn invitation<'a>(hash: &'a [u8; 32], person: InvitedPerson<'a>) -> NewInvitation<'a> {
    NewInvitation {
        hash,
        team: Some((TEAM, AccessRole::Member)),
        person,
        invited_by: None,
        created_at: now(),
        expires_at: later(100),
    }
}

async fn invitation_is_used_once_by_its_person_and_within_its_time(database: Database) {
    let store = open(&database).await;
    let ines = person(&store, 1, "Ines-Acme").await;
    let other = person(&store, 2, "other").await;
    for (hash, invited) in [
        ([1; 32], InvitedPerson::Anyone),
        ([2; 32], InvitedPerson::Login("ines-acme")),
        ([3; 32], InvitedPerson::Known(ines)),
    ] {
        let new = invitation(&hash, invited);
        store.create_invitation(&new).await.unwrap();
    }
    let accept = async |hash: u8, by, at| {
        let accepted = store.accept_invitation(&[hash; 32], by, at).await;
        accepted.unwrap()
    };
    let accepted = |user| {
        InvitationOutcome::Accepted(AcceptedInvitation {
            user,
            team: Some(TEAM),
            signs_in: false,
        })
    };
    use InvitationOutcome::{NotValid, OtherPerson, SignInFirst};
    assert_eq!(accept(9, Some(ines), now()).await, NotValid);
    assert_eq!(accept(1, Some(ines), later(100)).await, NotValid);
    assert_eq!(accept(1, None, now()).await, SignInFirst);
    assert_eq!(accept(2, Some(other), now()).await, OtherPerson);
    assert_eq!(accept(3, Some(other), now()).await, OtherPerson);
    assert_eq!(roles(&store, TEAM).await, [], "a refusal uses nothing up");
    assert_eq!(accept(2, Some(ines), later(99)).await, accepted(ines));
    assert_eq!(accept(2, Some(ines), later(99)).await, NotValid);
    assert_eq!(accept(1, Some(other), now()).await, accepted(other));
    let member = AccessRole::Member;
    let joined = store.members(TEAM).await.unwrap();
    assert!(
        joined
            .iter()
            .all(|member| member.source == MemberSource::Invitation)
    );
    // One who has a greater role keeps it.
    let admin = AccessRole::Admin;
    store.set_member_role(TEAM, ines, admin).await.unwrap();
    assert_eq!(accept(3, Some(ines), now()).await, accepted(ines));
    let mut known = roles(&store, TEAM).await;
    known.sort();
    assert_eq!(known, [(ines, admin), (other, member)]);
    // A login that was only written down is none of GitHub.
    let hash = [4; 32];
    let named = InvitedPerson::New {
        name: "Mallory",
        login: Some("ines-acme"),
    };
    let (_, mallory) = store
        .create_invitation(&invitation(&hash, named))
        .await
        .unwrap();
    let hash = [5; 32];
    let new = invitation(&hash, InvitedPerson::Login("ines-acme"));
    store.create_invitation(&new).await.unwrap();
    assert_eq!(accept(5, mallory, now()).await, OtherPerson);
    let listed = store.invitations(TEAM).await.unwrap();
    assert_eq!(listed.len(), 5);
    assert_eq!(store.invitations(TeamId(2)).await.unwrap(), []);
    let (open, used) = (listed[0].id, listed[4].id);
    for (team, id, expected) in [
        (TeamId(2), open, false),
        (TEAM, used, false),
        (TEAM, open, true),
        (TEAM, open, false),
    ] {
        assert_eq!(store.end_invitation(team, id).await.unwrap(), expected);
    }
    assert_eq!(accept(5, Some(ines), now()).await, NotValid);
}

async fn invitation_has_no_force_once_its_inviter_is_no_admin(database: Database) {
    let store = open(&database).await;
    let inviter = member(&store, TEAM, 1, AccessRole::Admin).await;
    member(&store, TEAM, 2, AccessRole::Admin).await;
    let guest = person(&store, 3, "guest").await;
    let hash = [1; 32];
    let new = NewInvitation {
        invited_by: Some(inviter),
        ..invitation(&hash, InvitedPerson::Anyone)
    };
    store.create_invitation(&new).await.unwrap();
    let offer = async || store.invitation_offer(&hash, now()).await.unwrap();
    assert!(offer().await.is_some());
    let lowered = store.set_member_role(TEAM, inviter, AccessRole::Member);
    assert_eq!(lowered.await.unwrap(), MemberChange::Done);
    assert_eq!(offer().await, None);
    let accepted = store.accept_invitation(&hash, Some(guest), now()).await;
    assert_eq!(accepted.unwrap(), InvitationOutcome::NotValid);
    store.remove_member(TEAM, inviter).await.unwrap();
    assert_eq!(offer().await, None);
}

async fn invitation_of_many_concurrent_uses_has_one(database: Database) {
    let store = open(&database).await;
    let hash = [1; 32];
    let new = invitation(&hash, InvitedPerson::Anyone);
    store.create_invitation(&new).await.unwrap();
    let mut people = Vec::new();
    for id in 0..8 {
        people.push(person(&store, id, "guest").await);
    }
    let uses = people.iter().map(|user| {
        let store = &store;
        async move {
            let accepted = store.accept_invitation(&hash, Some(*user), now()).await;
            matches!(accepted.unwrap(), InvitationOutcome::Accepted(_))
        }
    });
    let taken = join_all(uses).await;
    assert_eq!(taken.iter().filter(|is_taken| **is_taken).count(), 1);
    assert_eq!(store.members(TEAM).await.unwrap().len(), 1);
}

async fn link_signs_in_a_person_without_an_account_at_github(database: Database) {
    let store = open(&database).await;
    let hash = [1; 32];
    let lena = InvitedPerson::New {
        name: "Lena",
        login: None,
    };
    let new = NewInvitation {
        team: None,
        ..invitation(&hash, lena)
    };
    let (_, user) = store.create_invitation(&new).await.unwrap();
    let user = user.unwrap();
    let offer = store.invitation_offer(&hash, now()).await.unwrap().unwrap();
    assert_eq!((offer.team, offer.signs_in), (None, true));
    assert_eq!(offer.person.unwrap().shown(), "Lena");
    let accepted = store.accept_invitation(&hash, None, now()).await.unwrap();
    let signed_in = InvitationOutcome::Accepted(AcceptedInvitation {
        user,
        team: None,
        signs_in: true,
    });
    assert_eq!(accepted, signed_in);
    assert_eq!(store.memberships(user).await.unwrap(), []);
    let record = store.user(user).await.unwrap().unwrap();
    assert_eq!((record.github_id, record.person.login), (None, None));
    // A further link is of the same person, and of none once that is disabled.
    let hash = [2; 32];
    let new = invitation(&hash, InvitedPerson::SignedIn(user));
    store.create_invitation(&new).await.unwrap();
    disable(&store, user).await;
    let refused = store.accept_invitation(&hash, None, now()).await.unwrap();
    assert_eq!(refused, InvitationOutcome::NotValid);
}

fn rule<'a>(org: &'a str, team: Option<&'a str>, role: AccessRole) -> NewTeamRule<'a> {
    NewTeamRule {
        github_org_id: None,
        github_org: org,
        github_team: team,
        role,
    }
}

async fn rules_give_and_take_memberships_and_leave_those_of_others(database: Database) {
    use AccessRole::{Admin, Member, Viewer};
    let store = open(&database).await;
    let apps = store.create_team("apps").await.unwrap().unwrap();
    let rules = [
        rule("acme", None, Viewer),
        rule("acme", Some("backend"), Admin),
    ];
    store.replace_team_rules(TEAM, &rules).await.unwrap();
    let of_apps = [rule("acme", None, Member)];
    store.replace_team_rules(apps, &of_apps).await.unwrap();
    let stored = store.team_rules(None).await.unwrap();
    let [all, backend, members] = [0, 1, 2].map(|place| stored[place].id);
    assert_eq!(stored[2].team, apps);

    let user = person(&store, 1, "ines").await;
    let hold = async |holding: &[_]| {
        let replaced = store.replace_rule_memberships(user, holding, later(10));
        replaced.await.unwrap()
    };
    let known = async || {
        let known = store.memberships(user).await.unwrap().into_iter();
        known
            .map(|known| (known.team, known.role))
            .collect::<Vec<_>>()
    };
    let outcome = |joined: &[TeamId], changed: &[TeamId], left: &[TeamId]| RuleMemberships {
        joined: joined.to_vec(),
        changed: changed.to_vec(),
        left: left.to_vec(),
        kept: Vec::new(),
    };
    assert_eq!(
        hold(&[all, members]).await,
        outcome(&[TEAM, apps], &[], &[])
    );
    assert_eq!(known().await, [(apps, Member), (TEAM, Viewer)]);
    // The greatest role of the rules that hold.
    assert_eq!(hold(&[backend, all]).await, outcome(&[], &[TEAM], &[apps]));
    assert_eq!(known().await, [(TEAM, Admin)]);
    let checked = store.members(TEAM).await.unwrap()[0].github_checked_at;
    assert_eq!(checked, Some(later(10)));
    // The last admin stays, though GitHub says otherwise.
    let kept = RuleMemberships {
        kept: vec![TEAM],
        ..outcome(&[], &[], &[])
    };
    assert_eq!(hold(&[]).await, kept);
    assert_eq!(known().await, [(TEAM, Admin)]);
    let second = member(&store, TEAM, 2, Admin).await;
    assert_eq!(hold(&[all]).await, outcome(&[], &[TEAM], &[]));
    assert_eq!(hold(&[]).await, outcome(&[], &[], &[TEAM]));
    assert_eq!(known().await, []);
    // A membership by hand is none of the rules.
    let by_hand = store.replace_rule_memberships(second, &[all], now()).await;
    assert_eq!(by_hand.unwrap(), outcome(&[], &[], &[]));
    assert_eq!(roles(&store, TEAM).await, [(second, Admin)]);
    // Nor is one whose role was set by hand since.
    assert_eq!(hold(&[all]).await.joined, [TEAM]);
    store.set_member_role(TEAM, user, Member).await.unwrap();
    assert_eq!(hold(&[]).await, outcome(&[], &[], &[]));
    assert_eq!(known().await, [(TEAM, Member)]);
}

async fn rules_that_stay_keep_their_ids_and_the_last_one_takes_its_members(database: Database) {
    use AccessRole::{Admin, Member, Viewer};
    let store = open(&database).await;
    let put = async |rules: &[_]| {
        store.replace_team_rules(TEAM, rules).await.unwrap();
        let stored = store.team_rules(Some(TEAM)).await.unwrap().into_iter();
        stored
            .map(|rule| (rule.id, rule.github_org, rule.role))
            .collect::<Vec<_>>()
    };
    let first = put(&[rule("acme", None, Viewer), rule("acme", Some("x"), Admin)]).await;
    let second = put(&[rule("ACME", None, Member), rule("other", None, Viewer)]).await;
    assert_eq!(second[0], (first[0].0, "acme".to_owned(), Member));
    assert!(second[1].0 > first[1].0, "no id is given twice");
    let user = person(&store, 1, "ines").await;
    let admin = member(&store, TEAM, 2, Admin).await;
    let holding = [second[0].0];
    store
        .replace_rule_memberships(user, &holding, now())
        .await
        .unwrap();
    assert_eq!(store.members(TEAM).await.unwrap().len(), 2);
    // Those that a rule made are due to be checked after a change.
    put(&[rule("other", None, Viewer)]).await;
    let checked = async || {
        let members = store.members(TEAM).await.unwrap();
        let by_rule = members.iter().find(|known| known.person.id == user);
        by_rule.map(|known| known.github_checked_at)
    };
    assert_eq!(checked().await, Some(None));
    assert_eq!(put(&[]).await, []);
    assert_eq!(roles(&store, TEAM).await, [(admin, Admin)]);
}
