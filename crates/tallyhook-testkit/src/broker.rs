//! A virtual host of RabbitMQ for one test. `scripts/services` starts the broker and names it in
//! the environment.

use serde_json::{Value, json};

/// A virtual host with its own exchanges and queues, deleted at the end of the test.
pub struct Broker {
    /// For `AMQP_URL`.
    pub url: String,
    name: String,
    management: String,
}

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run the tests by `scripts/test --all`"))
}

impl Broker {
    pub async fn new() -> Self {
        let (amqp, management) = (
            variable("TEST_AMQP_URL"),
            variable("TEST_RABBITMQ_MANAGEMENT_URL"),
        );
        let name = format!("test-{}", uuid::Uuid::new_v4());
        // The last part of an AMQP URL is the virtual host.
        let (server, _) = amqp.rsplit_once('/').unwrap();
        let user = amqp
            .split_once("://")
            .unwrap()
            .1
            .split(':')
            .next()
            .unwrap()
            .to_owned();
        let broker = Self {
            url: format!("{server}/{name}"),
            management,
            name,
        };
        broker
            .ask(
                reqwest::Method::PUT,
                &format!("/api/vhosts/{}", broker.name),
                &json!({}),
            )
            .await;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        broker
            .ask(
                reqwest::Method::PUT,
                &format!("/api/permissions/{}/{user}", broker.name),
                &all,
            )
            .await;
        broker
    }

    /// Calls the management API and returns its answer.
    pub async fn ask(&self, method: reqwest::Method, path: &str, body: &Value) -> Value {
        let request = reqwest::Client::new()
            .request(method, format!("{}{path}", self.management))
            .json(body);
        let response = request.send().await.unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        let text = response.text().await.unwrap();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Removes up to `count` messages from a queue and returns them.
    pub async fn get(&self, queue: &str, count: u32) -> Vec<Value> {
        let asked = json!({"count": count, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let path = format!("/api/queues/{}/{queue}/get", self.name);
        self.ask(reqwest::Method::POST, &path, &asked)
            .await
            .as_array()
            .unwrap()
            .clone()
    }

    /// Publishes a message, as returned by [`Broker::get`], to a queue.
    pub async fn put(&self, queue: &str, message: &Value) {
        let published = json!({
            "routing_key": queue, "properties": message["properties"],
            "payload": message["payload"], "payload_encoding": message["payload_encoding"],
        });
        let path = format!("/api/exchanges/{}/amq.default/publish", self.name);
        assert_eq!(
            self.ask(reqwest::Method::POST, &path, &published).await["routed"],
            true
        );
    }

    /// Declares a queue for a subscriber and binds it to every event.
    pub async fn subscribe(&self, queue: &str) {
        let name = &self.name;
        self.ask(
            reqwest::Method::PUT,
            &format!("/api/queues/{name}/{queue}"),
            &json!({"durable": true}),
        )
        .await;
        let path = format!("/api/bindings/{name}/e/tallyhook.v1.events/q/{queue}");
        self.ask(reqwest::Method::POST, &path, &json!({"routing_key": "#"}))
            .await;
    }

    /// Deletes a queue, even while it has consumers.
    pub async fn delete(&self, queue: &str) {
        self.ask(
            reqwest::Method::DELETE,
            &format!("/api/queues/{}/{queue}", self.name),
            &json!({}),
        )
        .await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let url = format!("{}/api/vhosts/{}", self.management, self.name);
        // On a runtime of its own, since the test's may be shutting down. An error here hides no
        // failure of the test.
        let delete = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime
                .block_on(async { reqwest::Client::new().delete(url).send().await })
                .map_err(std::io::Error::other)
        };
        drop(std::thread::spawn(delete).join());
    }
}
