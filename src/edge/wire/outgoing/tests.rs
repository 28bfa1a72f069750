//! Pages in every form, against what API.md says.

use serde_json::{Value, json};

use super::*;
use crate::model::{BlockBuilder, Epoch, PlacedBlock, Timestamp};
use crate::queue::ReadBlock;

fn placed(records: &[Record<'_>]) -> Arc<ReadBlock> {
    placed_at(5, records)
}

fn placed_at(base_offset: u64, records: &[Record<'_>]) -> Arc<ReadBlock> {
    let mut builder = BlockBuilder::default();
    for record in records {
        builder.push(record).unwrap();
    }
    let block = builder.finish().unwrap();
    ReadBlock::new(Arc::new(PlacedBlock {
        stream: TopicId(1).outgoing(),
        epoch: Epoch::FIRST,
        base_offset,
        count: block.count(),
        ingest_base: 5,
        published_at: Timestamp(0),
        age: JournalAge(0),
        body: block.body().clone(),
    }))
}

fn shown(form: Form, gaps: Gaps, page_bytes: u64, receipts: &ReceiptKey) -> Shown<'_> {
    let (body_bytes, until, now) = (usize::MAX, u64::MAX, JournalAge(0));
    let (frames, shared) = (false, true);
    Shown { form, gaps, page_bytes, body_bytes, until, frames, shared, receipts, now }
}

fn all(form: Form, block: &Arc<ReadBlock>) -> Vec<u8> {
    let key = ReceiptKey::new([0; 16]);
    let shown = shown(form, Gaps::StopAt, u64::MAX, &key);
    let mut budget = ReadBudget::new(100, u64::MAX);
    shown.page(&mut budget, std::slice::from_ref(block), 5, None).unwrap().body
}

fn every_kind() -> Arc<ReadBlock> {
    placed(&[
        Record::json(b"{\"a\":\n 1}"),
        Record::of("text/plain", "line\n\"é\"".as_bytes()),
        Record::of("text/plain", &[0xff]),
        Record {
            key: Some("k\u{1}"),
            message_id: Some("m"),
            attributes: vec![("a", "b")],
            ttl_ms: Some(5),
            ..Record::of("x/y", b"\0")
        },
    ])
}

/// What API.md says of the four, with bytes as base64.
fn check(messages: &[Value]) {
    assert_eq!(messages.len(), 4);
    assert_eq!(messages[0]["offset"], 5);
    assert_eq!(messages[0]["data"], json!({"a": 1}));
    assert_eq!(messages[0]["content_type"], "application/json");
    assert_eq!(messages[0]["published_at"], "1970-01-01T00:00:00.000Z");
    assert_eq!(messages[3]["key"], "k\u{1}");
    assert_eq!(messages[3]["message_id"], "m");
    assert_eq!(messages[3]["ttl_ms"], 5);
    assert_eq!(messages[3]["attributes"]["a"], "b");
}

#[test]
fn payloads_appear_by_their_kind_in_json() {
    let json = String::from_utf8(all(Form::Json, &every_kind())).unwrap();
    let messages: Vec<Value> = serde_json::from_str(&format!("[{json}]")).unwrap();
    check(&messages);
    assert!(json.contains("{\"a\":\n 1}"), "to the letter");
    assert_eq!(messages[1]["data"], "line\n\"é\"");
    assert_eq!(messages[2]["data_base64"], "/w==");
    assert_eq!(messages[3]["data_base64"], "AA==");
}

#[test]
fn lines_and_events_hold_no_line_end_of_a_payload() {
    let lines = String::from_utf8(all(Form::Lines, &every_kind())).unwrap();
    let messages: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    check(&messages);
    let events = String::from_utf8(all(Form::Events, &every_kind())).unwrap();
    let events: Vec<_> = events.split_terminator("\n\n").collect();
    let messages: Vec<Value> = events
        .iter()
        .enumerate()
        .map(|(n, event)| {
            let (id, data) = event.split_once('\n').unwrap();
            assert_eq!(id, format!("id: 1-{}", 5 + n));
            serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()
        })
        .collect();
    check(&messages);
}

#[test]
fn payloads_appear_as_values_or_bytes_in_messagepack() {
    let bytes = all(Form::MessagePack, &every_kind());
    let mut rest = &bytes[..];
    let mut messages = Vec::new();
    while !rest.is_empty() {
        messages.push(rmpv::decode::read_value(&mut rest).unwrap());
    }
    // The data apart, it is what JSON has.
    let json: Vec<Value> = messages
        .iter()
        .map(|message| {
            let members = message.as_map().unwrap().iter();
            let plain = members.filter(|(name, value)| {
                name.as_str() != Some("data") || !matches!(value, rmpv::Value::Binary(_))
            });
            let text = |(name, value): &(rmpv::Value, rmpv::Value)| {
                let value = match value {
                    rmpv::Value::String(text) => text.as_str().into(),
                    // A map or a number is shown as JSON shows it.
                    other => serde_json::from_str(&other.to_string()).unwrap(),
                };
                (name.as_str().unwrap().to_owned(), value)
            };
            Value::Object(plain.map(text).collect())
        })
        .collect();
    check(&json);
    let data = |n: usize| messages[n]["data"].as_slice().unwrap();
    assert_eq!((data(1), data(2), data(3)), ("line\n\"é\"".as_bytes(), &[0xff][..], &[0][..]));
}

#[test]
fn gaps_are_passed_over_or_end_a_page() {
    let ttl = |ttl_ms| Record { ttl_ms, ..Record::json(b"1") };
    let block = placed(&[ttl(Some(0)), ttl(None), ttl(Some(0)), ttl(None), ttl(Some(0))]);
    let key = ReceiptKey::new([0; 16]);
    let page = |gaps, from| {
        let mut budget = ReadBudget::new(100, 1_000);
        let shown = shown(Form::Json, gaps, 1_000, &key);
        let page = shown.page(&mut budget, std::slice::from_ref(&block), from, None).unwrap();
        let gaps: Vec<_> = page.gaps.iter().map(|gap| (gap.from, gap.to)).collect();
        (page.messages, gaps, page.next)
    };
    assert_eq!(page(Gaps::PassOver, 5), (2, vec![(5, 5), (7, 7), (9, 9)], Some(10)));
    assert_eq!(page(Gaps::StopAt, 5), (0, vec![(5, 5)], Some(6)));
    assert_eq!(page(Gaps::StopAt, 6), (1, vec![], Some(7)));
    assert_eq!(page(Gaps::StopAt, 9), (0, vec![(9, 9)], Some(10)));
}

#[test]
fn a_page_respects_its_limits_but_the_first_message_always_comes() {
    let block = placed(&[Record::json(b"1"), Record::json(b"2"), Record::json(b"3")]);
    let key = ReceiptKey::new([0; 16]);
    let pick = |from, messages, bytes, page_bytes| {
        let mut budget = ReadBudget::new(messages, bytes);
        let shown = shown(Form::Json, Gaps::PassOver, page_bytes, &key);
        let page = shown.page(&mut budget, std::slice::from_ref(&block), from, None).unwrap();
        let json = String::from_utf8(page.body).unwrap();
        let found: Vec<Value> = serde_json::from_str(&format!("[{json}]")).unwrap();
        assert_eq!(page.messages, found.len() as u64);
        (found.len(), page.next, page.last)
    };
    assert_eq!(pick(5, 100, 1_000, 1_000), (3, Some(8), false));
    assert_eq!(pick(6, 100, 1_000, 1_000), (2, Some(8), false));
    assert_eq!(pick(5, 2, 1_000, 1_000), (2, Some(7), true));
    assert_eq!(pick(5, 100, 2, 1_000), (2, Some(7), true));
    assert_eq!(pick(5, 100, 0, 1_000), (1, Some(6), true));
    assert_eq!(pick(5, 100, 1_000, 2), (2, Some(7), false), "the rest on another page");
}

#[test]
fn short_pages_one_after_another_are_what_a_long_one_is() {
    let payloads: Vec<_> = (0..100).map(|n| "x".repeat(n * 7 % 90)).collect();
    let records: Vec<_> =
        payloads.iter().map(|text| Record::of("text/plain", text.as_bytes())).collect();
    let (block, key) = (placed(&records), ReceiptKey::new([0; 16]));
    let second = ReadBlock::new(Arc::new(PlacedBlock { base_offset: 105, ..(**block).clone() }));
    let blocks = [block, second];
    for form in [Form::Lines, Form::MessagePack, Form::Events, Form::Json] {
        let mut whole = shown(form, Gaps::PassOver, u64::MAX, &key);
        whole.shared = false;
        let page = |shown: &Shown<'_>, budget: &mut ReadBudget, from, place| {
            shown.page(budget, &blocks, from, place).unwrap()
        };
        let mut budget = ReadBudget::new(190, u64::MAX);
        let expected = page(&whole, &mut budget, 5, None).body;
        let short = Shown { body_bytes: 700, until: 195, ..whole };
        let (mut budget, mut from, mut place) = (ReadBudget::new(1_000, u64::MAX), 5, None);
        let mut given = Vec::new();
        while from < 195 {
            let next = page(&short, &mut budget, from, place);
            assert!(next.body.len() <= 700 && next.messages > 0);
            if form == Form::Json && !given.is_empty() {
                given.push(b',');
            }
            given.extend_from_slice(&next.body);
            (from, place) = (next.next.unwrap(), next.place);
        }
        assert_eq!(given, expected, "{form:?}");
    }
}

#[test]
fn a_whole_block_too_long_for_a_page_is_told_of_and_not_copied() {
    let (block, key) = (every_kind(), ReceiptKey::new([0; 16]));
    let mut shown = shown(Form::Json, Gaps::PassOver, u64::MAX, &key);
    shown.body_bytes = 100;
    let mut budget = ReadBudget::new(100, u64::MAX);
    let page = shown.page(&mut budget, std::slice::from_ref(&block), 5, None).unwrap();
    assert_eq!((page.messages, page.next, page.body.len()), (4, Some(9), 0));
    let json = page.block.unwrap().json().unwrap().messages().as_bytes().to_vec();
    assert_eq!(json, all(Form::Json, &block));
    // The frame that a tail is sent is there already.
    (shown.body_bytes, shown.frames) = (usize::MAX, true);
    let page = shown.page(&mut budget, std::slice::from_ref(&block), 5, None).unwrap();
    assert_eq!((page.messages, page.next, page.body.len()), (4, Some(9), 0));
    assert_eq!(*page.block.unwrap().json().unwrap().frame(), messages_frame(&json));
    let blocks = [block, placed_at(9, &[Record::json(b"1")])];
    let page = shown.page(&mut budget, &blocks, 5, None).unwrap();
    assert_eq!((page.messages, page.next, page.block.is_none()), (5, Some(10), true), "short ones");
    (shown.body_bytes, shown.frames) = (100, false);
    // One with a single reader is written message by message.
    shown.shared = false;
    let block = every_kind();
    let page = shown.page(&mut budget, std::slice::from_ref(&block), 5, None).unwrap();
    assert_eq!((page.messages, page.block.is_none()), (1, true));
}

#[test]
fn a_plan_counts_what_pages_give() {
    let block = every_kind();
    let blocks = std::slice::from_ref(&block);
    for (messages, from, expected) in [(100, 5, (4, Some(9))), (2, 6, (2, Some(8)))] {
        let mut budget = ReadBudget::new(messages, u64::MAX);
        let plan = plan(&mut budget, blocks, from, u64::MAX, JournalAge(0)).unwrap();
        assert_eq!((plan.messages, plan.next), expected);
    }
    let mut budget = ReadBudget::new(100, 1);
    let plan = plan(&mut budget, blocks, 3, u64::MAX, JournalAge(0)).unwrap();
    assert_eq!((plan.messages, plan.next, plan.last), (1, Some(6), true), "at least one");
    assert_eq!(plan.gaps, [Gap { from: 3, to: 4 }]);
}
