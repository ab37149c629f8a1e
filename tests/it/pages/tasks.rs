//! The pages of tasks.

use reqwest::Method;
use serde_json::json;
use tallyhook_store::AccessRole;
use testkit::{TOKEN, TestServer};

use super::bearer::{assert_has, form, form_as, page, page_as};

#[tokio::test]
async fn task_is_created_moved_and_linked_on_pages() {
    let mut server = TestServer::start().await;
    for fixture in testkit::fixtures() {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server.drained().await;
    assert_has(
        &page(&server, "/tasks").await,
        &["code reviewing", "Create a task"],
    );
    let fields = [
        ("title", "Sort <the> queue"),
        ("key", "SORT-7"),
        ("branch", ""),
    ];
    assert_eq!(form(&server, "/tasks", &fields).await, "/tasks/SORT-7");
    let board = page(&server, "/tasks").await;
    assert_has(
        &board,
        &[
            r#"<a href="/tasks?status=TODO" data-count>1</a>"#,
            r#"<a href="/tasks?status=DONE" data-count>0</a>"#,
            "SORT-7 Sort &lt;the&gt; queue",
        ],
    );
    let list = page(&server, "/tasks?status=TODO&q=sort-7").await;
    assert_has(&list, &[r#"id="count" data-count="1""#, "SORT-7"]);
    let none = page(&server, "/tasks?status=TODO&q=nothing").await;
    assert_has(&none, &[r#"data-count="0""#, "No task matches"]);

    assert_eq!(
        form_as(&server, TOKEN, "/tasks/SORT-7/move", &[("status", "x")])
            .await
            .0,
        400
    );
    form(&server, "/tasks/SORT-7/move", &[("status", "IMPLEMENTING")]).await;
    let number = "109";
    let of = [("repo", "acme-corp/api-server"), ("number", number)];
    form(&server, "/tasks/SORT-7/link", &of).await;
    let linked = page(&server, "/tasks/SORT-7").await;
    let address = format!("/repos/acme-corp/api-server/prs/{number}");
    assert_has(
        &linked,
        &["to do → implementing", "a person changed it", &address],
    );
    // Its pull request is merged, and a person moved it back.
    form(&server, "/tasks/SORT-7/move", &[("status", "TODO")]).await;
    let (_, task) = server
        .ask(Method::GET, "/api/tasks?q=SORT", &json!(null))
        .await;
    let listed = &task["items"][0];
    let would_be = &listed["differs"]["would_be"];
    assert_eq!(
        page(&server, "/tasks").await.contains("differs"),
        !would_be.is_null(),
        "{task}"
    );
    form(&server, "/tasks/SORT-7/unlink", &of).await;
    let unlinked = page(&server, "/tasks/SORT-7").await;
    assert_has(&unlinked, &["None is linked", "no access to GitHub"]);
    assert_eq!(
        form_as(&server, TOKEN, "/tasks/SORT-7/pr", &[]).await.0,
        409
    );

    let viewer = server.create_token("viewer", AccessRole::Viewer).await;
    let (_, seen) = page_as(&server, &viewer, "/tasks/SORT-7").await;
    assert!(!seen.contains("Move to"), "{seen}");
    assert_eq!(form_as(&server, &viewer, "/tasks", &fields).await.0, 403);
    assert_eq!(page_as(&server, TOKEN, "/tasks/NONE-1").await.0, 404);
    server.stop().await;
}
