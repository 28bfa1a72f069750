//! What the tests share.

pub mod broker;
pub mod disk;
pub mod history;
pub mod load;
pub mod socket;
pub mod wire;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What MessagePack says, as JSON; bytes are `{"bin": [numbers]}`.
pub fn msgpack(mut bytes: &[u8]) -> Value {
    let value = rmpv::decode::read_value(&mut bytes).expect("MessagePack");
    assert!(bytes.is_empty(), "nothing follows");
    fn json_of(value: &rmpv::Value) -> Value {
        match value {
            rmpv::Value::Nil => Value::Null,
            rmpv::Value::Boolean(value) => json!(value),
            rmpv::Value::Integer(number) => number
                .as_u64()
                .map(Value::from)
                .or_else(|| number.as_i64().map(Value::from))
                .expect("64 bits"),
            rmpv::Value::F32(number) => json!(number),
            rmpv::Value::F64(number) => json!(number),
            rmpv::Value::String(text) => json!(text.as_str().expect("UTF-8")),
            rmpv::Value::Binary(bytes) => json!({ "bin": bytes }),
            rmpv::Value::Array(values) => values.iter().map(json_of).collect(),
            rmpv::Value::Map(members) => {
                let member = |(name, value): &(rmpv::Value, rmpv::Value)| {
                    (name.as_str().expect("a name").to_owned(), json_of(value))
                };
                Value::Object(members.iter().map(member).collect())
            }
            rmpv::Value::Ext(..) => panic!("an extension"),
        }
    }
    json_of(&value)
}

/// Asks again and again, until the answer is yes; panics with `what` after ten seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let start = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while !ask().await {
        assert!(start.elapsed() < Duration::from_secs(10), "still not so after 10 s: {what}");
        pace.tick().await;
    }
}
