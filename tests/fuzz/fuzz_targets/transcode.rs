//! JSON becomes MessagePack and back without another value; MessagePack becomes valid JSON that
//! says the same, or a problem.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use weir::exposed::{append_json_to_msgpack, msgpack_to_json};
use weir_fuzz::json::{DEPTH_MAX, depth, has_lone_surrogate, is_json, numbers};
use weir_fuzz::messages::check_refusal;

const BYTES_MAX: usize = 4_096;

/// What the bytes say; nothing where a [`Value`] can't hold it.
fn value(json: &[u8]) -> Option<Value> {
    // serde_json's own mark for raw values, which its `Value` would obey.
    let text = std::str::from_utf8(json).expect("JSON is text");
    let marked = text.contains("$serde_json::private");
    if marked { None } else { serde_json::from_str(text).ok() }
}

/// What another reader makes of MessagePack, where it has a JSON form.
fn of_msgpack(value: rmpv::Value) -> Option<Value> {
    Some(match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(truth) => truth.into(),
        rmpv::Value::Integer(number) => match number.as_u64() {
            Some(number) => number.into(),
            None => number.as_i64()?.into(),
        },
        rmpv::Value::F32(number) => Value::Number(serde_json::Number::from_f64(number.into())?),
        rmpv::Value::F64(number) => Value::Number(serde_json::Number::from_f64(number)?),
        rmpv::Value::String(text) => text.into_str()?.into(),
        rmpv::Value::Array(values) => {
            Value::Array(values.into_iter().map(of_msgpack).collect::<Option<_>>()?)
        }
        rmpv::Value::Map(members) => {
            let mut map = Map::new();
            for (name, value) in members {
                let rmpv::Value::String(name) = name else { return None };
                map.insert(name.into_str()?, of_msgpack(value)?);
            }
            Value::Object(map)
        }
        rmpv::Value::Binary(_) | rmpv::Value::Ext(..) => return None,
    })
}

fn from_json(json: &[u8]) {
    let mut msgpack = vec![0xc0];
    if append_json_to_msgpack(&mut msgpack, json).is_none() {
        assert_eq!(msgpack, [0xc0], "what was there before is left alone");
        let plain = |number: &&str| number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok();
        let sayable = is_json(json) && depth(json) <= DEPTH_MAX && !has_lone_surrogate(json);
        assert!(!sayable || !numbers(json).iter().all(plain), "has a form in MessagePack");
        return;
    }
    for number in numbers(json).iter().filter(|number| !number.contains(['.', 'e', 'E'])) {
        let whole = number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok();
        assert!(whole, "an integer that MessagePack has not: {number}");
    }
    assert_eq!(msgpack[0], 0xc0);
    assert!(is_json(json), "became MessagePack, and is no JSON");
    let back = msgpack_to_json(&msgpack[1..], 100 * BYTES_MAX).expect("it came from JSON");
    assert!(is_json(&back));
    assert_eq!(value(&back), value(json));
}

fn from_msgpack(msgpack: &[u8]) {
    // Never a few bytes that cost much to look at.
    let theirs = rmpv::decode::read_value_with_max_depth(&mut &msgpack[..], 1_000).ok();
    let theirs = theirs.and_then(of_msgpack);
    match msgpack_to_json(msgpack, BYTES_MAX) {
        Ok(json) => {
            assert!(json.len() <= BYTES_MAX);
            assert!(is_json(&json), "{json:?}");
            assert!(depth(&json) <= DEPTH_MAX, "others could not read it");
            if let Some(value) = value(&json) {
                assert_eq!(theirs, Some(value));
            }
            from_json(&json);
        }
        Err(problem) => {
            check_refusal(&problem);
            // The other reader takes the one byte that is never used for nil.
            if let Some(theirs) = theirs.filter(|_| !msgpack.contains(&0xc1)) {
                let json = serde_json::to_vec(&theirs).expect("plain data");
                let code = problem.code().as_str();
                assert!(
                    depth(&json) > DEPTH_MAX || code == "message-too-large",
                    "has a JSON form: {problem}"
                );
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    from_json(bytes);
    from_msgpack(bytes);
});
