//! `tallyhook hook`

use clap::{Args, Subcommand};

use super::{CommandFailure, CommandResult, GITHUB_WEBHOOK_SECRET, SettingSources, github, output};
use crate::config::Config;
use crate::sync::webhook::{self, RegisteredWebhook, WebhookState};

#[derive(Debug, Subcommand)]
pub(super) enum HookCommand {
    /// Create the webhook of a repository at GitHub, or fix the existing one
    Create(CreateHookArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateHookArgs {
    /// The repository
    #[arg(value_name = "OWNER/REPO")]
    repo: String,
    /// The URL at which GitHub reaches this server, ending in /webhooks/github
    #[arg(long, value_name = "URL")]
    url: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl HookCommand {
    pub(super) async fn run(self, sources: SettingSources) -> CommandResult {
        let Self::Create(create) = self;
        create.run(sources).await
    }
}

impl CreateHookArgs {
    async fn run(self, sources: SettingSources) -> CommandResult {
        let Some(url) = webhook::endpoint(&self.url) else {
            return Err(CommandFailure::Usage(format!(
                "`{}` is not the URL of a webhook: expected one such as \
                 https://hooks.example.com{}",
                self.url,
                webhook::ENDPOINT
            )));
        };
        let config = Config::new(&sources)?;
        let Some(secret) = &config.hook_secret else {
            return Err(CommandFailure::Usage(format!(
                "{GITHUB_WEBHOOK_SECRET} is not set: set it to the secret that GitHub signs with"
            )));
        };
        let client = github::client(&config, "that may write webhooks (scope admin:repo_hook)")?;
        let webhook = webhook::register(&client, &self.repo, &url, secret).await?;
        if self.json {
            output::json(&webhook)?;
        } else {
            print(&self.repo, &webhook)?;
        }
        match webhook.message {
            None => Ok(()),
            Some(message) => Err(CommandFailure::Failed(anyhow::anyhow!(message))),
        }
    }
}

fn print(repo: &str, webhook: &RegisteredWebhook) -> CommandResult {
    let state = match (webhook.state, webhook.id) {
        (WebhookState::Created, Some(id)) => format!("created, number {id}"),
        (WebhookState::Updated, Some(id)) => format!("existed as number {id}, fixed"),
        _ => "to be created by hand".to_owned(),
    };
    output::fields(&[
        ("webhook of", repo.to_owned()),
        ("state", state),
        ("payload URL", webhook.url.clone()),
        ("content type", webhook.content_type.to_owned()),
        ("secret", format!("the first of {GITHUB_WEBHOOK_SECRET}")),
        ("events", webhook.events.join(", ")),
    ])
}
