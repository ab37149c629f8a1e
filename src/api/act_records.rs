//! The calls and forms that are administrative acts, by method and path, and those that are none.

/// The record of a call or form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallRecord {
    /// It is an act.
    Act {
        action: &'static str,
        /// The kind of the thing whose name is in the path.
        target: &'static str,
        /// The fields of the body that are kept; none of them may be a secret.
        fields: &'static [&'static str],
    },
    /// It is none, for this reason.
    None(&'static str),
}

const fn act(
    action: &'static str,
    target: &'static str,
    fields: &'static [&'static str],
) -> CallRecord {
    CallRecord::Act {
        action,
        target,
        fields,
    }
}

const OF_TASK: CallRecord = CallRecord::None("the history of the task has it");
const READS: CallRecord = CallRecord::None("it changes nothing that is stored");
const WATCH: CallRecord =
    CallRecord::None("a member asks for one pull request more often, for a while");
const PREFERENCE: CallRecord = CallRecord::None("it sets a cookie of the browser");
const OPEN: CallRecord = CallRecord::None("its handler records it, once the caller is known");
const SELECTION: &[&str] = &["ids", "id", "group", "event", "repo", "all", "reason"];

const INVITATION: &[&str] = &["role", "login", "github_login", "name", "user"];
const RULE: &[&str] = &[
    "role",
    "organization",
    "org",
    "github_org",
    "github_team",
    "team",
];

/// The unsafe calls and forms, and the exports, with their records. The name of an act is the thing
/// and what was done to it.
pub const RECORDS: &[(&str, CallRecord)] = &[
    ("POST /invitations/{secret}", OPEN),
    (
        "POST /settings/sessions/end",
        act("session.all_ended", "session", &[]),
    ),
    (
        "POST /teams/choose",
        CallRecord::None("it chooses the team that the session shows"),
    ),
    ("POST /teams", act("team.created", "team", &["name"])),
    ("POST /api/teams", act("team.created", "team", &["name"])),
    (
        "POST /api/members",
        act("member.added", "user", &["user", "login", "role"]),
    ),
    (
        "PATCH /api/members/{user}",
        act("member.role_changed", "user", &["role"]),
    ),
    (
        "DELETE /api/members/{user}",
        act("member.removed", "user", &[]),
    ),
    ("DELETE /api/me/membership", act("member.left", "team", &[])),
    (
        "POST /members/{id}/role",
        act("member.role_changed", "user", &["role"]),
    ),
    (
        "POST /members/{id}/remove",
        act("member.removed", "user", &[]),
    ),
    (
        "POST /api/invitations",
        act("invitation.created", "invitation", INVITATION),
    ),
    (
        "POST /members/invite",
        act("invitation.created", "invitation", INVITATION),
    ),
    (
        "DELETE /api/invitations/{id}",
        act("invitation.ended", "invitation", &[]),
    ),
    (
        "POST /members/invitations/{id}/end",
        act("invitation.ended", "invitation", &[]),
    ),
    ("PUT /api/rules", act("rules.replaced", "team", &["rules"])),
    ("POST /members/rules", act("rules.replaced", "team", RULE)),
    (
        "POST /members/rules/{id}/remove",
        act("rules.replaced", "rule", &[]),
    ),
    (
        "PUT /api/repositories/{owner}/{repo}",
        act("repository.given", "repository", &["team"]),
    ),
    (
        "DELETE /api/repositories/{owner}/{repo}",
        act("repository.taken", "repository", &["team"]),
    ),
    (
        "POST /webhooks/github",
        CallRecord::None("a delivery is a row of its own"),
    ),
    ("POST /login", OPEN),
    ("POST /login/once/{code}", OPEN),
    (
        "POST /logout",
        CallRecord::None("the browser ends its own session"),
    ),
    (
        "DELETE /api/me/sessions",
        act("session.all_ended", "session", &[]),
    ),
    (
        "DELETE /api/me/sessions/{id}",
        act("session.ended", "session", &[]),
    ),
    (
        "POST /settings/sessions/{id}/end",
        act("session.ended", "session", &[]),
    ),
    (
        "POST /api/ws-ticket",
        CallRecord::None("it opens one WebSocket of the caller"),
    ),
    (
        "POST /api/tokens",
        act(
            "token.created",
            "token",
            &["name", "role", "login", "expires_days"],
        ),
    ),
    (
        "POST /settings/tokens",
        act(
            "token.created",
            "token",
            &["name", "role", "login", "expires_days"],
        ),
    ),
    (
        "DELETE /api/tokens/{name}",
        act("token.revoked", "token", &[]),
    ),
    (
        "POST /settings/tokens/{name}/revoke",
        act("token.revoked", "token", &[]),
    ),
    (
        "POST /api/repos",
        act("repository.tracked", "repository", &["repo", "webhook_url"]),
    ),
    (
        "POST /repos",
        act("repository.tracked", "repository", &["repo"]),
    ),
    (
        "DELETE /api/repos/{owner}/{repo}",
        act("repository.untracked", "repository", &[]),
    ),
    (
        "POST /repos/{owner}/{repo}/untrack",
        act("repository.untracked", "repository", &[]),
    ),
    (
        "POST /api/repos/{owner}/{repo}/sync",
        act(
            "sync.forced",
            "repository",
            &["days_back", "max_prs", "commits"],
        ),
    ),
    (
        "POST /repos/{owner}/{repo}/sync",
        act(
            "sync.forced",
            "repository",
            &["days_back", "max_prs", "commits"],
        ),
    ),
    (
        "DELETE /api/sync-runs/{id}",
        act("sync.cancelled", "sync_run", &[]),
    ),
    (
        "POST /sync-runs/{id}/cancel",
        act("sync.cancelled", "sync_run", &[]),
    ),
    ("POST /api/sync", act("poll.forced", "installation", &[])),
    (
        "POST /api/channels/{name}/test",
        act("channel.tested", "channel", &[]),
    ),
    (
        "POST /channels/{name}/test",
        act("channel.tested", "channel", &[]),
    ),
    (
        "POST /api/notifications/{event_id}/{channel}/retry",
        act("notification.retried", "notification", &[]),
    ),
    (
        "POST /channels/{name}/retry",
        act("notification.retried", "channel", &["event_id", "event"]),
    ),
    (
        "DELETE /api/dead-letters/{id}",
        act("dead_letter.discarded", "delivery", &["reason"]),
    ),
    (
        "POST /api/dead-letters/discard",
        act("dead_letters.discarded", "inbox", SELECTION),
    ),
    (
        "POST /dead-letters/discard",
        act("dead_letters.discarded", "inbox", SELECTION),
    ),
    (
        "POST /api/dead-letters/{id}/requeue",
        act("dead_letter.requeued", "delivery", &[]),
    ),
    (
        "POST /api/dead-letters/requeue",
        act("dead_letters.requeued", "inbox", SELECTION),
    ),
    (
        "POST /dead-letters/try",
        act("dead_letters.requeued", "inbox", SELECTION),
    ),
    ("POST /api/deliveries/{id}/check", READS),
    ("POST /api/doctor", READS),
    ("POST /health/doctor", READS),
    ("POST /api/repos/{owner}/{repo}/prs/{number}/monitor", WATCH),
    (
        "DELETE /api/repos/{owner}/{repo}/prs/{number}/monitor",
        WATCH,
    ),
    ("POST /repos/{owner}/{repo}/prs/{number}/watch", WATCH),
    ("POST /repos/{owner}/{repo}/prs/{number}/unwatch", WATCH),
    ("POST /repos/{owner}/{repo}/prs/{number}/refresh", READS),
    ("POST /api/tasks", OF_TASK),
    ("PATCH /api/tasks/{id}", OF_TASK),
    ("POST /api/tasks/{id}/pr", OF_TASK),
    ("POST /api/tasks/{id}/prs", OF_TASK),
    (
        "DELETE /api/tasks/{id}/prs/{owner}/{repo}/{number}",
        OF_TASK,
    ),
    ("POST /tasks", OF_TASK),
    ("POST /tasks/{id}/move", OF_TASK),
    ("POST /tasks/{id}/link", OF_TASK),
    ("POST /tasks/{id}/unlink", OF_TASK),
    ("POST /tasks/{id}/pr", OF_TASK),
    ("POST /keys", PREFERENCE),
    ("POST /theme", PREFERENCE),
    // Reads that take payloads out of the installation.
    (
        "GET /api/delivery-payloads/{id}",
        act("delivery.payload_read", "delivery", &[]),
    ),
    (
        "GET /api/deliveries/{id}/export",
        act("delivery.exported", "delivery", &[]),
    ),
    (
        "GET /api/dead-letters/export",
        act("dead_letters.exported", "inbox", &[]),
    ),
    (
        "GET /deliveries/{id}/payload",
        act("delivery.payload_read", "delivery", &[]),
    ),
    (
        "GET /deliveries/{id}/fixture",
        act("delivery.exported", "delivery", &[]),
    ),
    (
        "GET /dead-letters/export",
        act("dead_letters.exported", "inbox", &[]),
    ),
];

/// Returns the record of a call or form; `None` is a read.
pub fn record_of(method: &str, path: &str) -> Option<CallRecord> {
    let is_of = |(call, _): &&(&str, CallRecord)| {
        let mut parts = call.splitn(2, ' ');
        parts.next() == Some(method) && parts.next() == Some(path)
    };
    RECORDS.iter().find(is_of).map(|(_, record)| *record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_listed_twice() {
        let mut calls: Vec<_> = RECORDS.iter().map(|(call, _)| call).collect();
        let count = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), count);
    }
}
