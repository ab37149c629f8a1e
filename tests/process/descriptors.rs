//! A process with few file descriptors goes on serving.

use std::process::Command;

use futures_util::{StreamExt, stream};

use testkit::process::{PATIENCE, Serve, signed, tallyhook};

const POSTS: usize = 300;

/// Returns a command whose process has at most `limit` descriptors.
fn limited(folder: &std::path::Path, limit: u32) -> Command {
    let program = tallyhook(folder, &[]);
    let mut command = Command::new("/bin/sh");
    let script = format!("ulimit -n {limit} && exec \"$0\" serve --log-format json");
    command
        .args(["-c", &script])
        .arg(program.get_program())
        .current_dir(folder)
        .env_clear()
        .envs(
            program
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn every_post_is_accepted_with_few_descriptors_and_as_many_clients() {
    for (limit, clients) in [(64, 60), (40, 40)] {
        let folder = tempfile::tempdir().unwrap();
        let serve = Serve::start_command(&mut limited(folder.path(), limit));
        // A connection for each post, as GitHub has it.
        let http = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let accepted = stream::iter(0..POSTS)
            .map(|number| {
                let body = format!(r#"{{"action":"opened","pull_request":{number}}}"#);
                let guid = format!("few-{number}");
                let post = signed(&http, &serve.url, "pull_request", &guid, body.as_bytes());
                async move { post.send().await.is_ok_and(|answer| answer.status() == 202) }
            })
            .buffer_unordered(clients)
            .filter(|accepted| std::future::ready(*accepted))
            .count()
            .await;
        assert_eq!(accepted, POSTS, "with {limit} descriptors");
        let (status, _) = serve.terminate();
        assert!(status.success(), "{status} with {limit} descriptors");
    }
}
