//! What must hold of messages that came, whatever form they came in.

use weir::edge::error::Problem;
use weir::edge::wire::{RawMessage, RawMessages, Sender, check_payload};
use weir::model::{BlockBuilder, MessageIdKey, PayloadKind, Record};

use crate::json::{is_json, stored};

/// The most messages that are taken at once.
pub const COUNT_MAX: usize = 16;
/// The largest payload that is taken.
pub const PAYLOAD_BYTES_MAX: usize = 512;
/// What a refusal may say of a client's mistake.
const DETAIL_CHARS_MAX: usize = 1_001;

/// Takes messages as a producer's do, and checks what becomes of them.
pub fn check(found: Result<RawMessages<'_>, Problem>, sender: Sender) {
    let messages = match found {
        Ok(RawMessages(messages)) => messages,
        Err(problem) => return check_refusal(&problem),
    };
    assert!(messages.len() <= COUNT_MAX, "{} messages", messages.len());
    let mut builder = BlockBuilder::new(MessageIdKey::new([7; 16]));
    let mut taken = Vec::new();
    for raw in messages {
        let before = (builder.count(), builder.bytes());
        let pushed = raw
            .message(sender)
            .and_then(|message| message.push_to(&mut builder, PAYLOAD_BYTES_MAX));
        match pushed {
            Ok(()) => {
                assert_eq!(builder.count(), before.0 + 1);
                taken.push(raw);
            }
            Err(problem) => {
                assert_eq!((builder.count(), builder.bytes()), before, "the block as it was");
                // Its acknowledgement may still need its id.
                let _ = raw.id();
                check_refusal(&problem);
            }
        }
    }
    check_block(builder, &taken);
}

/// Takes the payloads of lines, and checks that exactly what a message may hold is taken.
pub fn check_lines(lines: &[&[u8]]) {
    for line in lines {
        let good = stored(line).filter(|stored| stored.len() <= PAYLOAD_BYTES_MAX);
        match check_payload("application/json", line, PAYLOAD_BYTES_MAX) {
            Ok(taken) => assert_eq!(Some(taken), good, "taken, and is no JSON: {line:?}"),
            Err(problem) => {
                assert_eq!(good, None, "refused, and is JSON: {line:?}: {problem}");
                check_refusal(&problem);
            }
        }
    }
}

/// A block's records are those that were taken, in order, each within its limits.
fn check_block(mut builder: BlockBuilder, taken: &[RawMessage<'_>]) {
    let Some(block) = builder.finish() else {
        return assert!(taken.is_empty());
    };
    assert_eq!(block.count() as usize, taken.len());
    let mut rest = &block.body()[..];
    for (place, raw) in taken.iter().enumerate() {
        let record = Record::decode(&mut rest).expect("a record that was taken");
        record.validate().expect("every part is within its limit");
        assert!(record.payload.len() <= PAYLOAD_BYTES_MAX);
        if PayloadKind::of(record.content_type) == PayloadKind::Json {
            assert!(is_json(record.payload), "declared JSON: {:?}", record.payload);
        }
        let printed = block.fingerprints().iter().any(|(printed, _)| *printed as usize == place);
        assert_eq!(printed, record.message_id.is_some());
        if let RawMessage::Json(text) = raw {
            check_same(text, &record);
        }
    }
    assert!(rest.is_empty(), "{} bytes after the last record", rest.len());
}

/// A message that came in JSON is kept as another reader understands it.
fn check_same(text: &str, record: &Record<'_>) {
    // serde_json's own mark for raw values, which its `Value` would obey.
    if text.contains("$serde_json::private") {
        return;
    }
    // A number that is too large for a Value, or too deep a nesting, is fine for us.
    let Ok(sent) = serde_json::from_str::<serde_json::Value>(text) else { return };
    let said = |name: &str| sent.get(name).and_then(|value| value.as_str());
    assert_eq!(said("key"), record.key);
    assert_eq!(said("message_id"), record.message_id);
    if let Some(content_type) = said("content_type") {
        assert_eq!(content_type, record.content_type);
    }
    assert_eq!(sent.get("ttl_ms").and_then(|ttl| ttl.as_u64()), record.ttl_ms);
    let attributes = sent.get("attributes").and_then(|value| value.as_object());
    assert_eq!(attributes.map_or(0, |attributes| attributes.len()), record.attributes.len());
    for (name, value) in &record.attributes {
        let mut all = attributes.into_iter().flatten();
        let sent = all.find(|(sent, _)| sent.eq_ignore_ascii_case(name));
        assert_eq!(sent.and_then(|(_, value)| value.as_str()), Some(*value));
    }
    match &sent["data"] {
        _ if sent.get("data_base64").is_some_and(|encoded| !encoded.is_null()) => {}
        serde_json::Value::String(spelled)
            if PayloadKind::of(record.content_type) != PayloadKind::Json =>
        {
            assert_eq!(spelled.as_bytes(), record.payload);
        }
        _ => {
            let payload = std::str::from_utf8(record.payload).expect("JSON is text");
            assert!(text.contains(payload), "{payload:?} is not what came: {text:?}");
        }
    }
}

/// A refusal is a problem object that blames the client, in not too many words.
pub fn check_refusal(problem: &Problem) {
    let shown: serde_json::Value =
        serde_json::from_str(&problem.to_json()).expect("a problem is JSON");
    let code = shown["code"].as_str().expect("a code");
    assert!(matches!(code, "invalid-request" | "message-too-large"), "{problem}");
    assert!(matches!(shown["status"].as_u64(), Some(400 | 413)), "{problem}");
    assert_eq!(shown["temporary"], false, "{problem}");
    let detail = shown["detail"].as_str().expect("a detail");
    assert!(!detail.is_empty());
    assert!(detail.chars().count() <= DETAIL_CHARS_MAX, "{} bytes of detail", detail.len());
}
