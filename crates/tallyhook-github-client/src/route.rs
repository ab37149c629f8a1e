//! The address of a request as it may be shown: without the codes that some paths have in them, and
//! without the values of a query.

use reqwest::Url;

/// The words of GitHub's paths. Any other segment is a value.
const WORDS: [&str; 62] = [
    "access_token",
    "access_tokens",
    "api",
    "app",
    "app-manifests",
    "applications",
    "attempts",
    "blobs",
    "branches",
    "check-runs",
    "check-suites",
    "code",
    "comments",
    "commits",
    "config",
    "contents",
    "conversions",
    "credentials",
    "deliveries",
    "device",
    "git",
    "gitignore",
    "grant",
    "graphql",
    "hook",
    "hooks",
    "installation",
    "installations",
    "issues",
    "labels",
    "licenses",
    "login",
    "members",
    "memberships",
    "merge",
    "meta",
    "oauth",
    "orgs",
    "permission",
    "pulls",
    "push-protection-bypasses",
    "rate_limit",
    "ref",
    "refs",
    "repos",
    "repositories",
    "requested_reviewers",
    "reviews",
    "revoke",
    "rules",
    "secret-scanning",
    "status",
    "statuses",
    "tags",
    "teams",
    "templates",
    "timeline",
    "token",
    "trees",
    "user",
    "users",
    "v3",
];
/// The parameters whose values are shown.
const SHOWN_PARAMETERS: [&str; 2] = ["page", "per_page"];

/// Returns the path of `url`, without the one-time code of a manifest. Errors and logs name it.
pub(crate) fn shown_path(url: &Url) -> String {
    let path = url.path();
    let code = path
        .split_once("/app-manifests/")
        .and_then(|(before, rest)| Some((before, rest.split_once('/')?.1)));
    match code {
        Some((before, after)) => format!("{before}/app-manifests/{{code}}/{after}"),
        None => path.to_owned(),
    }
}

/// Returns the path of `url` with the values of its paging only.
pub(crate) fn shown_path_and_pages(url: &Url) -> String {
    let pages: Vec<_> = url
        .query_pairs()
        .filter(|(name, _)| SHOWN_PARAMETERS.contains(&name.as_ref()))
        .filter(|(_, value)| value.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let path = shown_path(url);
    if pages.is_empty() {
        path
    } else {
        format!("{path}?{}", pages.join("&"))
    }
}

/// Returns the route of `url`, such as `/repos/{owner}/{repo}/pulls/{id}`: one text for all requests
/// of a kind.
pub(crate) fn route_of(url: &Url) -> String {
    let path = url.path();
    let path = path.strip_prefix("/api/v3").unwrap_or(path);
    let segments: Vec<_> = path.trim_matches('/').split('/').collect();
    let (known, rest): (&[&str], usize) = match segments[..] {
        ["repos", _, _, "contents", ..] => (&["repos", "{owner}", "{repo}", "contents"], 4),
        ["repos", _, _, "git", kind @ ("ref" | "refs"), _, ..] => {
            return format!("/repos/{{owner}}/{{repo}}/git/{kind}/{{ref}}");
        }
        ["repos", _, _, ..] => (&["repos", "{owner}", "{repo}"], 3),
        ["orgs", _, "teams", _, ..] => (&["orgs", "{org}", "teams", "{team}"], 4),
        ["orgs", _, ..] => (&["orgs", "{org}"], 2),
        ["users", _, ..] => (&["users", "{user}"], 2),
        ["app-manifests", _, ..] => (&["app-manifests", "{code}"], 2),
        ["applications", _, ..] => (&["applications", "{client_id}"], 2),
        _ => (&[], 0),
    };
    if known.last() == Some(&"contents") && segments.len() > rest {
        return "/repos/{owner}/{repo}/contents/{path}".to_owned();
    }
    let tail = segments[rest..].iter().map(|segment| template(segment));
    let route: Vec<_> = known.iter().copied().chain(tail).collect();
    format!("/{}", route.join("/"))
}

fn template(segment: &str) -> &str {
    if WORDS.binary_search(&segment).is_ok() || segment.is_empty() {
        segment
    } else if segment.bytes().all(|byte| byte.is_ascii_digit()) {
        "{id}"
    } else {
        "{name}"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(path: &str) -> Url {
        Url::parse(&format!("https://github.example.com{path}")).unwrap()
    }

    #[test]
    fn words_are_in_order() {
        assert!(WORDS.is_sorted());
    }

    #[test]
    fn route_has_names_in_place_of_values() {
        for (path, route) in [
            (
                "/repos/acme/pulls/pulls/7/reviews",
                "/repos/{owner}/{repo}/pulls/{id}/reviews",
            ),
            ("/repos/acme/api?x=secret", "/repos/{owner}/{repo}"),
            (
                "/repos/acme/api/contents/a/b.md",
                "/repos/{owner}/{repo}/contents/{path}",
            ),
            (
                "/repos/acme/api/git/refs/heads/topic/one",
                "/repos/{owner}/{repo}/git/refs/{ref}",
            ),
            ("/repos/acme/api/git/refs", "/repos/{owner}/{repo}/git/refs"),
            (
                "/repos/acme/api/branches/main",
                "/repos/{owner}/{repo}/branches/{name}",
            ),
            (
                "/api/v3/orgs/teams/teams/users/memberships/octocat",
                "/orgs/{org}/teams/{team}/memberships/{name}",
            ),
            (
                "/orgs/acme/memberships/octocat",
                "/orgs/{org}/memberships/{name}",
            ),
            ("/user/memberships/orgs", "/user/memberships/orgs"),
            (
                "/user/installations/9/repositories",
                "/user/installations/{id}/repositories",
            ),
            (
                "/app-manifests/token/conversions",
                "/app-manifests/{code}/conversions",
            ),
            (
                "/applications/Iv1.a/token",
                "/applications/{client_id}/token",
            ),
            ("/credentials/revoke", "/credentials/revoke"),
            ("/login/oauth/access_token", "/login/oauth/access_token"),
            ("/api/graphql", "/api/graphql"),
            ("/echo", "/{name}"),
        ] {
            assert_eq!(route_of(&url(path)), route, "{path}");
        }
    }

    #[test]
    fn shown_path_has_neither_codes_nor_values_of_the_query() {
        let shown = |path| shown_path_and_pages(&url(path));
        assert_eq!(
            shown("/repos/a/b/pulls?head=secret&per_page=100&page=2&cursor=v1_secret"),
            "/repos/a/b/pulls?per_page=100&page=2"
        );
        assert_eq!(shown("/user?page=secret"), "/user");
        assert_eq!(
            shown("/api/v3/app-manifests/s3cret/conversions"),
            "/api/v3/app-manifests/{code}/conversions"
        );
    }
}
