//! `tallyhook hook`

use clap::{Args, Subcommand};

use super::{Failure, GITHUB_WEBHOOK_SECRET, Outcome, Sources, github, output};
use crate::config::Config;
use crate::sync::webhook::{self, Webhook, WebhookState};

#[derive(Debug, Subcommand)]
pub(super) enum HookCommand {
    /// Make a repository's webhook at GitHub, or mend the one that is there
    Create(Create),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Whose webhook
    #[arg(value_name = "OWNER/REPO")]
    repo: String,
    /// Where GitHub reaches this server: its address with /webhooks/github behind it
    #[arg(long, value_name = "URL")]
    url: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl HookCommand {
    pub(super) async fn run(self, sources: Sources) -> Outcome {
        let Self::Create(create) = self;
        create.run(sources).await
    }
}

impl Create {
    async fn run(self, sources: Sources) -> Outcome {
        if !webhook::is_endpoint(&self.url) {
            return Err(Failure::Usage(format!(
                "`{}` is no address of a webhook: expected one such as https://hooks.example.com{}",
                self.url,
                webhook::ENDPOINT
            )));
        }
        let config = Config::new(&sources)?;
        let Some(secret) = &config.hook_secret else {
            return Err(Failure::Usage(format!(
                "{GITHUB_WEBHOOK_SECRET} is not set: GitHub is to sign with it"
            )));
        };
        let client = github::client(&config, "that may write webhooks (scope admin:repo_hook)")?;
        let webhook = webhook::register(&client, &self.repo, &self.url, secret).await?;
        if self.json {
            output::json(&webhook)?;
        } else {
            print(&self.repo, &webhook)?;
        }
        match webhook.message {
            None => Ok(()),
            Some(message) => Err(Failure::Failed(anyhow::anyhow!(message))),
        }
    }
}

fn print(repo: &str, webhook: &Webhook) -> Outcome {
    let state = match (webhook.state, webhook.id) {
        (WebhookState::Made, Some(id)) => format!("made, number {id}"),
        (WebhookState::Mended, Some(id)) => format!("was there as number {id}, and is mended"),
        _ => "to be entered by hand".to_owned(),
    };
    let mut table = output::table(&["webhook", repo]);
    for (what, value) in [
        ("state", state),
        ("payload URL", webhook.url.clone()),
        ("content type", webhook.content_type.to_owned()),
        ("secret", format!("the first of {GITHUB_WEBHOOK_SECRET}")),
        ("events", webhook.events.join(", ")),
    ] {
        table.add_row([what.to_owned(), value]);
    }
    output::line(&table.to_string())
}
