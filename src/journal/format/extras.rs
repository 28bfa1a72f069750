//! Optional fields that few blocks have: (tag, length, value), so that later versions can add some.
//!
//! Invariants: a field that is critical and not known here is refused; any other is skipped; what
//! [`encode`] wrote, [`decode`] returns.

use bytes::{Buf, BufMut, Bytes};

use super::varint;
use crate::model::{
    Fingerprint, Gap, HeaderExtras, Incarnation, InputOutcome, LastId, Origin, OutcomeRun,
    POSITION_BYTES_MAX, Run, WindowSettings,
};

const CRITICAL: u8 = 0x80;
const FINGERPRINTS: u8 = 0x81;
const RUNS: u8 = 0x82;
const ORIGIN: u8 = 0x83;
const OUTCOMES: u8 = 0x84;
const GAP: u8 = 0x85;
const WINDOW: u8 = 0x86;

pub(super) fn encode(out: &mut Vec<u8>, extras: &HeaderExtras) {
    let mut value = Vec::new();
    let mut field = |tag: u8, value: &mut Vec<u8>| {
        if !value.is_empty() {
            out.push(tag);
            varint::put_bytes(out, value);
            value.clear();
        }
    };
    let mut next = 0;
    for (place, print) in &extras.fingerprints {
        varint::put(&mut value, u64::from(place - next));
        value.put_u128_le(print.id);
        value.put_u64_le(print.payload);
        next = place + 1;
    }
    field(FINGERPRINTS, &mut value);
    for Run { name, last } in &extras.runs {
        varint::put_bytes(&mut value, name.as_bytes());
        put_last_id(&mut value, last);
    }
    field(RUNS, &mut value);
    if let Some(Origin { ingest_id, incarnation }) = &extras.origin {
        varint::put(&mut value, u64::from(*ingest_id));
        varint::put(&mut value, incarnation.0);
    }
    field(ORIGIN, &mut value);
    let mut next = 0;
    for run in &extras.outcomes {
        varint::put(&mut value, u64::from(run.place - next));
        varint::put(&mut value, u64::from(run.count));
        put_outcome(&mut value, &run.outcome);
        next = run.place + run.count;
    }
    field(OUTCOMES, &mut value);
    if let Some(gap) = &extras.gap {
        varint::put(&mut value, gap.from);
        varint::put(&mut value, gap.to - gap.from);
    }
    field(GAP, &mut value);
    if let Some(window) = &extras.window {
        varint::put(&mut value, window.ms);
        varint::put(&mut value, window.messages);
    }
    field(WINDOW, &mut value);
}

/// `None` when the bytes are malformed or hold a critical field that is not known.
pub(super) fn decode(mut rest: &[u8]) -> Option<HeaderExtras> {
    let mut extras = HeaderExtras::default();
    let mut before = None;
    while let Ok(tag) = rest.try_get_u8() {
        let mut value = varint::take_bytes(&mut rest)?;
        // Each at most once.
        if before.is_some_and(|before| tag <= before) {
            return None;
        }
        before = Some(tag);
        let rest = &mut value;
        match tag {
            FINGERPRINTS => extras.fingerprints = fingerprints(rest)?,
            RUNS => extras.runs = runs(rest)?,
            ORIGIN => {
                let ingest_id = varint::take_u32(rest)?;
                let incarnation = Incarnation(varint::take(rest)?);
                extras.origin = Some(Origin { ingest_id, incarnation });
            }
            OUTCOMES => extras.outcomes = outcomes(rest)?,
            GAP => {
                let from = varint::take(rest)?;
                let to = from.checked_add(varint::take(rest)?).filter(|to| *to < u64::MAX)?;
                extras.gap = Some(Gap { from, to });
            }
            WINDOW => {
                let (ms, messages) = (varint::take(rest)?, varint::take(rest)?);
                extras.window = Some(WindowSettings { ms, messages });
            }
            tag if tag & CRITICAL != 0 => return None,
            _ => *rest = &[],
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some(extras)
}

fn fingerprints(rest: &mut &[u8]) -> Option<Vec<(u32, Fingerprint)>> {
    let mut found = Vec::new();
    let mut next = 0u32;
    while !rest.is_empty() {
        let place = next.checked_add(varint::take_u32(rest)?)?;
        let id = rest.try_get_u128_le().ok()?;
        let payload = rest.try_get_u64_le().ok()?;
        found.push((place, Fingerprint { id, payload }));
        next = place.checked_add(1)?;
    }
    Some(found)
}

fn runs(rest: &mut &[u8]) -> Option<Vec<Run>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let name = std::str::from_utf8(varint::take_bytes(rest)?).ok()?.into();
        found.push(Run { name, last: take_last_id(rest)? });
    }
    Some(found)
}

fn outcomes(rest: &mut &[u8]) -> Option<Vec<OutcomeRun>> {
    let mut found = Vec::new();
    let mut next = 0u32;
    while !rest.is_empty() {
        let place = next.checked_add(varint::take_u32(rest)?)?;
        let count = varint::take_u32(rest)?;
        next = place.checked_add(count)?;
        found.push(OutcomeRun { place, count, outcome: take_outcome(rest)? });
    }
    Some(found)
}

fn put_outcome(out: &mut Vec<u8>, outcome: &InputOutcome) {
    match outcome {
        InputOutcome::Outputs(outputs) => {
            let mut value = Vec::new();
            varint::put(&mut value, u64::from(*outputs));
            out.push(0);
            varint::put_bytes(out, &value);
        }
        InputOutcome::Filtered => {
            out.push(1);
            varint::put_bytes(out, &[]);
        }
        InputOutcome::Rejected(reason) => {
            out.push(2);
            varint::put_bytes(out, reason.as_bytes());
        }
    }
}

fn take_outcome(rest: &mut &[u8]) -> Option<InputOutcome> {
    let kind = rest.try_get_u8().ok()?;
    let mut value = varint::take_bytes(rest)?;
    let outcome = match kind {
        0 => InputOutcome::Outputs(varint::take_u32(&mut value)?),
        1 => InputOutcome::Filtered,
        2 => InputOutcome::Rejected(std::str::from_utf8(std::mem::take(&mut value)).ok()?.into()),
        _ => return None,
    };
    value.is_empty().then_some(outcome)
}

/// Appends the last id of a producer.
pub(super) fn put_last_id(out: &mut Vec<u8>, last: &LastId) {
    match last {
        LastId::Number(id) => {
            out.push(0);
            varint::put(out, *id);
        }
        LastId::Position(position) => {
            out.push(1);
            varint::put_bytes(out, position);
        }
    }
}

/// Takes the last id of a producer.
pub(super) fn take_last_id(rest: &mut &[u8]) -> Option<LastId> {
    Some(match rest.try_get_u8().ok()? {
        0 => LastId::Number(varint::take(rest)?),
        1 => {
            let position = varint::take_bytes(rest)?;
            (position.len() <= POSITION_BYTES_MAX)
                .then(|| LastId::Position(Bytes::copy_from_slice(position)))?
        }
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn last_id() -> impl Strategy<Value = LastId> {
        prop_oneof![
            any::<u64>().prop_map(LastId::Number),
            vec(any::<u8>(), 0..256).prop_map(|bytes| LastId::Position(bytes.into())),
        ]
    }

    fn outcome() -> impl Strategy<Value = InputOutcome> {
        prop_oneof![
            any::<u32>().prop_map(InputOutcome::Outputs),
            Just(InputOutcome::Filtered),
            ".{0,20}".prop_map(|reason| InputOutcome::Rejected(reason.into())),
        ]
    }

    prop_compose! {
        pub(crate) fn extras()(
            places in proptest::collection::btree_set(0u32..5_000, 0..6),
            ids in vec((any::<u128>(), any::<u64>()), 6),
            runs in vec((".{0,12}", last_id()), 0..4),
            origin in proptest::option::of((any::<u32>(), any::<u64>())),
            outcomes in vec((0u32..50, 1u32..50, outcome()), 0..4),
            gap in proptest::option::of((any::<u32>(), 0u64..1 << 40)),
            window in proptest::option::of((any::<u64>(), any::<u64>())),
        ) -> HeaderExtras {
            let prints = ids.into_iter().map(|(id, payload)| Fingerprint { id, payload });
            let mut next = 0;
            HeaderExtras {
                fingerprints: places.into_iter().zip(prints).collect(),
                runs: runs.into_iter().map(|(name, last)| Run { name: name.into(), last }).collect(),
                origin: origin.map(|(ingest_id, incarnation)| Origin {
                    ingest_id,
                    incarnation: Incarnation(incarnation),
                }),
                outcomes: outcomes
                    .into_iter()
                    .map(|(skip, count, outcome)| {
                        let place = next + skip;
                        next = place + count;
                        OutcomeRun { place, count, outcome }
                    })
                    .collect(),
                gap: gap.map(|(from, len)| Gap { from: from.into(), to: u64::from(from) + len }),
                window: window.map(|(ms, messages)| WindowSettings { ms, messages }),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_said_comes_back(extras in extras()) {
            let mut out = Vec::new();
            encode(&mut out, &extras);
            prop_assert_eq!(decode(&out), Some(extras));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn an_unknown_field_is_passed_over_unless_it_is_critical() {
        let mut known = Vec::new();
        let window = Some(WindowSettings { ms: 1, messages: 2 });
        let extras = HeaderExtras { window, ..HeaderExtras::default() };
        encode(&mut known, &extras);
        let with = |tag: u8| [&[tag, 2, 9, 9], &known[..]].concat();
        assert_eq!(decode(&with(0x07)), Some(extras));
        assert_eq!(decode(&[&known[..], &[0xff, 0]].concat()), None);
        assert_eq!(decode(&[&known[..], &known[..]].concat()), None, "twice");
    }
}
