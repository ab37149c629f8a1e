//! A virtual host of the tests' RabbitMQ, for one test: `scripts/services` starts the broker and tells where it is.

use serde_json::{Value, json};

/// Its own exchanges and queues, gone at the end of the test.
pub(crate) struct Broker {
    /// For `AMQP_URL`.
    pub(crate) url: String,
    name: String,
    management: String,
}

fn told(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run the tests by `scripts/test --all`"))
}

impl Broker {
    pub(crate) async fn new() -> Self {
        let (amqp, management) = (told("TEST_AMQP_URL"), told("TEST_RABBITMQ_MANAGEMENT_URL"));
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

    /// Asks the management API.
    pub(crate) async fn ask(&self, method: reqwest::Method, path: &str, body: &Value) -> Value {
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

    /// Takes up to `count` messages out of a queue.
    pub(crate) async fn get(&self, queue: &str, count: u32) -> Vec<Value> {
        let asked = json!({"count": count, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let path = format!("/api/queues/{}/{queue}/get", self.name);
        self.ask(reqwest::Method::POST, &path, &asked)
            .await
            .as_array()
            .unwrap()
            .clone()
    }

    /// Puts a message, as [`Broker::get`] gave it, into a queue.
    pub(crate) async fn put(&self, queue: &str, message: &Value) {
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

    /// A queue of a subscriber's own, bound to every event.
    pub(crate) async fn subscribe(&self, queue: &str) {
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

    /// Deletes a queue, whoever consumes it.
    pub(crate) async fn delete(&self, queue: &str) {
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
        // Apart from the test's own runtime, which may be ending; that it fails hides no failure of the test.
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
