//! RFC 6455, as the Autobahn|Testsuite asks servers about it (github.com/crossbario/autobahn-testsuite,
//! MIT): its sections 1 to 7, 9 and 10, in a table each, against a socket that echoes.
//!
//! Expected is what the standard says and nothing more lenient. Each case runs on a socket of its
//! own, which must be closed by the broker in the end.

use tempfile::{TempDir, tempdir};

use crate::support::broker::Broker;
use crate::support::wire::{BINARY, CLOSE, PING, PONG, TEXT, Wire, close, frame};

const CONTINUATION: u8 = 0x80;
/// Without FIN.
const MORE: u8 = 0x7f;

/// What the broker says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// What is sent, in pieces, and what must come back before the connection ends.
struct Case {
    name: String,
    pieces: Vec<Vec<u8>>,
    expected: Vec<Said>,
}

struct Echo {
    broker: Broker,
    _directory: TempDir,
}

impl Echo {
    fn start() -> Self {
        let directory = tempdir().unwrap();
        let broker = Broker::start(&directory.path().join("data"));
        Self { broker, _directory: directory }
    }

    /// Sends frames piece by piece, and again all at once.
    async fn check(&self, name: impl ToString, pieces: Vec<Vec<u8>>, expected: Vec<Said>) {
        let name = name.to_string();
        let whole = vec![pieces.concat()];
        let in_one = format!("{name}, in one write");
        self.run(Case { name: in_one, pieces: whole, expected: expected.clone() }).await;
        self.run(Case { name, pieces, expected }).await;
    }

    /// The same, and once more octet by octet.
    async fn check_small(&self, name: impl ToString, pieces: Vec<Vec<u8>>, expected: Vec<Said>) {
        let octets = pieces.concat().into_iter().map(|octet| vec![octet]).collect();
        let octetwise = format!("{}, octet by octet", name.to_string());
        let case = Case { name: octetwise, pieces: octets, expected: expected.clone() };
        self.run(case).await;
        self.check(name, pieces, expected).await;
    }

    /// Frames that break nothing: the goodbye at the end is answered.
    async fn check_good(
        &self,
        name: impl ToString,
        mut pieces: Vec<Vec<u8>>,
        mut expected: Vec<Said>,
    ) {
        pieces.push(close(1000, ""));
        expected.push(Said::Close(Some(1000)));
        let small = pieces.iter().map(Vec::len).sum::<usize>() < 2_000;
        match small {
            true => self.check_small(name, pieces, expected).await,
            false => self.check(name, pieces, expected).await,
        }
    }

    async fn run(&self, Case { name, pieces, expected }: Case) {
        let mut wire = Wire::upgraded(&self.broker, "/v1/debug/echo").await;
        for piece in pieces {
            // Behind what ends the connection the broker may be gone already.
            if !wire.offer(piece).await {
                break;
            }
        }
        let mut said = Vec::new();
        let mut fragments = Vec::new();
        while let Some(frame) = wire.frame().await {
            assert!(!matches!(said.last(), Some(Said::Close(_))), "{name}: more after close");
            if frame.first & 0x08 == 0 {
                fragments.push(frame);
                if fragments.last().unwrap().first & 0x80 == 0 {
                    continue;
                }
                let opcode = fragments[0].first & 0x0f;
                let payload = fragments.drain(..).flat_map(|frame| frame.payload).collect();
                said.push(if opcode == 1 { Said::Text(payload) } else { Said::Binary(payload) });
                continue;
            }
            match frame.first {
                PONG => said.push(Said::Pong(frame.payload)),
                CLOSE => {
                    // Else the broker may wait a while for our goodbye.
                    wire.end().await;
                    let Some((code, reason)) = frame.payload.split_first_chunk() else {
                        assert!(frame.payload.is_empty(), "{name}");
                        said.push(Said::Close(None));
                        continue;
                    };
                    assert!(frame.payload.len() <= 125 && str::from_utf8(reason).is_ok(), "{name}");
                    said.push(Said::Close(Some(u16::from_be_bytes(*code))));
                }
                // The broker's own, which come seldom.
                PING => {}
                other => panic!("{name}: a frame that begins with {other:#x}"),
            }
        }
        if said != expected {
            let short = |said: &[Said]| {
                let text = format!("{said:?}");
                text.chars().take(300).collect::<String>()
            };
            panic!("{name}: expected {}, got {}", short(&expected), short(&said));
        }
    }
}

/// What a violation ends with.
fn fails(code: u16) -> Vec<Said> {
    vec![Said::Close(Some(code))]
}

fn text(payload: impl AsRef<[u8]>) -> Said {
    Said::Text(payload.as_ref().to_vec())
}

fn pong(payload: impl AsRef<[u8]>) -> Said {
    Said::Pong(payload.as_ref().to_vec())
}

/// A message in fragments of at most so many bytes.
fn fragmented(opcode: u8, payload: &[u8], bytes: usize) -> Vec<Vec<u8>> {
    let mut fragments: Vec<&[u8]> = payload.chunks(bytes).collect();
    if fragments.is_empty() {
        fragments.push(b"");
    }
    let last = fragments.len() - 1;
    let first = |n: usize| {
        let opcode = if n == 0 { opcode & MORE } else { 0 };
        if n == last { opcode | 0x80 } else { opcode }
    };
    fragments.iter().enumerate().map(|(n, bytes)| frame(first(n), bytes)).collect()
}

#[tokio::test]
async fn section_1_messages_of_every_form_of_length_come_back() {
    let echo = Echo::start();
    for length in [0, 1, 125, 126, 127, 128, 65535, 65536] {
        let payload = vec![b'*'; length];
        let sent = vec![frame(TEXT, &payload)];
        echo.check_good(format!("text of {length}"), sent, vec![text(&payload)]).await;
        let payload = vec![0xfe; length];
        let sent = vec![frame(BINARY, &payload)];
        echo.check_good(format!("binary of {length}"), sent, vec![Said::Binary(payload)]).await;
    }
    let payload = vec![b'*'; 65536];
    let sent = frame(TEXT, &payload).chunks(997).map(<[u8]>::to_vec).collect();
    echo.check_good("text of 65536 in chops of 997 octets", sent, vec![text(&payload)]).await;
    let many = vec![frame(TEXT, "many"); 500];
    echo.check_good("500 messages", many, vec![text("many"); 500]).await;
}

#[tokio::test]
async fn section_2_pings_are_answered_and_pongs_are_not() {
    let echo = Echo::start();
    let full = vec![0xfe; 125];
    for (name, payload) in [
        ("an empty ping", &b""[..]),
        ("a ping with text", b"Hello, world!"),
        ("a ping with bytes that are no text", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
        ("a ping of 125 octets", &full),
    ] {
        echo.check_good(name, vec![frame(PING, payload)], vec![pong(payload)]).await;
    }
    let too_long = vec![frame(PING, [0xfe; 126])];
    echo.check_small("a ping of 126 octets", too_long, fails(1002)).await;
    let too_long = vec![frame(PONG, [0xfe; 126])];
    echo.check_small("a pong of 126 octets", too_long, fails(1002)).await;
    echo.check_good("an empty pong that nobody asked for", vec![frame(PONG, "")], vec![]).await;
    echo.check_good("a pong that nobody asked for", vec![frame(PONG, "unsolicited")], vec![]).await;
    let sent = vec![frame(PONG, "unsolicited"), frame(PING, "ping")];
    echo.check_good("a pong and then a ping", sent, vec![pong("ping")]).await;
    let (sent, expected): (Vec<_>, Vec<_>) = (0..10)
        .map(|n| format!("payload-{n}"))
        .map(|payload| (frame(PING, &payload), pong(&payload)))
        .unzip();
    echo.check_good("ten pings", sent, expected).await;
    let sent = vec![frame(TEXT & MORE, "a"), frame(PING, "!"), frame(CONTINUATION, "b")];
    echo.check_good("a ping within a message", sent, vec![pong("!"), text("ab")]).await;
}

#[tokio::test]
async fn section_3_reserved_bits_end_the_connection() {
    let echo = Echo::start();
    let hello = "Hello, world!";
    for bits in 1..8u8 {
        let reserved = bits << 4;
        for (name, first) in [
            ("text", TEXT),
            ("binary", BINARY),
            ("a ping", PING),
            ("a pong", PONG),
            ("close", CLOSE),
            ("a first fragment", TEXT & MORE),
        ] {
            let name = format!("reserved bits {bits} in {name}");
            let bad = frame(first | reserved, hello);
            echo.check_small(&name, vec![bad.clone()], fails(1002)).await;
            let sent = vec![frame(TEXT, hello), bad, frame(PING, "")];
            let expected = vec![text(hello), Said::Close(Some(1002))];
            echo.check(format!("{name}, after a message"), sent, expected).await;
        }
        let sent = vec![frame(TEXT & MORE, hello), frame(CONTINUATION | reserved, hello)];
        let name = format!("reserved bits {bits} in a continuation");
        echo.check_small(name, sent, fails(1002)).await;
    }
}

#[tokio::test]
async fn section_4_reserved_opcodes_end_the_connection() {
    let echo = Echo::start();
    for opcode in (3..8).chain(11..16) {
        for (kind, payload) in [("empty", &b""[..]), ("with a payload", b"reserved")] {
            let name = format!("opcode {opcode}, {kind}");
            let bad = frame(0x80 | opcode, payload);
            echo.check_small(&name, vec![bad.clone()], fails(1002)).await;
            let name = format!("{name}, without FIN");
            echo.check_small(&name, vec![frame(opcode, payload)], fails(1002)).await;
            let sent = vec![frame(TEXT, "Hello, world!"), bad, frame(PING, "")];
            let expected = vec![text("Hello, world!"), Said::Close(Some(1002))];
            echo.check(format!("{name}, after a message"), sent, expected).await;
        }
    }
}

#[tokio::test]
async fn section_5_fragments_become_messages_and_only_where_they_may_stand() {
    let echo = Echo::start();
    let (one, two) = ("fragment1", "fragment2");
    let first = || frame(TEXT & MORE, one);
    let last = || frame(CONTINUATION, two);
    let between = |payload: &str| frame(CONTINUATION & MORE, payload);
    let ping = || frame(PING, "ping");
    let both = || text("fragment1fragment2");

    for (name, opcode) in [("ping", PING), ("pong", PONG), ("close", CLOSE)] {
        let name = format!("a {name} in two fragments");
        let sent = vec![frame(opcode & MORE, "\x03\u{68}"), frame(CONTINUATION, "")];
        echo.check_small(name, sent, fails(1002)).await;
    }

    let good = [
        ("two fragments", vec![first(), last()], vec![both()]),
        ("a ping between two fragments", vec![first(), ping(), last()], vec![pong("ping"), both()]),
        (
            "a pong between two fragments",
            vec![first(), frame(PONG, "unsolicited"), last()],
            vec![both()],
        ),
        (
            "binary in two fragments",
            vec![frame(BINARY & MORE, [0xff]), frame(CONTINUATION, [0xfe])],
            vec![Said::Binary(vec![0xff, 0xfe])],
        ),
        (
            "three empty fragments",
            vec![frame(TEXT & MORE, ""), between(""), frame(CONTINUATION, "")],
            vec![text("")],
        ),
        (
            "three fragments, the middle one with all there is",
            vec![frame(TEXT & MORE, ""), between("middle"), frame(CONTINUATION, "")],
            vec![text("middle")],
        ),
        (
            "five fragments with pings between them",
            vec![
                frame(TEXT & MORE, "1"),
                between("2"),
                frame(PING, "pongme 1"),
                between("3"),
                between("4"),
                frame(PING, "pongme 2"),
                frame(CONTINUATION, "5"),
            ],
            vec![pong("pongme 1"), pong("pongme 2"), text("12345")],
        ),
        (
            "messages in fragments, one after the other",
            vec![first(), last(), frame(TEXT, "whole"), first(), last()],
            vec![both(), text("whole"), both()],
        ),
    ];
    for (name, sent, expected) in good {
        echo.check_good(name, sent, expected).await;
    }

    for (kind, fin) in [("with FIN", CONTINUATION), ("without FIN", CONTINUATION & MORE)] {
        let nothing = || frame(fin, "non-continuation payload");
        let hello = || frame(TEXT, "Hello, world!");
        let name = format!("a continuation {kind} of nothing");
        echo.check_small(&name, vec![nothing(), hello()], fails(1002)).await;
        let sent = vec![first(), last(), nothing(), hello()];
        let expected = vec![both(), Said::Close(Some(1002))];
        echo.check_small(format!("{name}, after a message in fragments"), sent, expected).await;
        let sent = vec![hello(), nothing()];
        let expected = vec![text("Hello, world!"), Said::Close(Some(1002))];
        echo.check_small(format!("{name}, after a whole message"), sent, expected).await;
    }
    for (name, second) in [
        ("a whole text", frame(TEXT, two)),
        ("a whole binary", frame(BINARY, two)),
        ("a text's first fragment", frame(TEXT & MORE, two)),
        ("a binary's first fragment", frame(BINARY & MORE, two)),
    ] {
        let name = format!("{name} within a message in fragments");
        echo.check_small(name, vec![first(), second.clone()], fails(1002)).await;
        let begun = frame(BINARY & MORE, one);
        let name = "the same within a binary message";
        echo.check_small(name, vec![begun, ping(), second], {
            vec![pong("ping"), Said::Close(Some(1002))]
        })
        .await;
    }
}

/// Sequences of bytes at the bounds of what is UTF-8 (Markus Kuhn's test file, RFC 3629).
const UTF8: [&[u8]; 24] = [
    b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
    "κόσμε".as_bytes(),
    b"\0",
    b"\x7f",
    b"\xc2\x80",
    b"\xdf\xbf",
    b"\xe0\xa0\x80",
    b"\xed\x9f\xbf",
    b"\xee\x80\x80",
    b"\xef\xbf\xbd",
    b"\xef\xbf\xbe",
    b"\xef\xbf\xbf",
    b"\xf0\x90\x80\x80",
    b"\xf0\x9f\xbf\xbe",
    b"\xf0\x9f\xbf\xbf",
    b"\xf0\xaf\xbf\xbe",
    b"\xf1\xbf\xbf\xbf",
    b"\xf3\xbf\xbf\xbe",
    b"\xf4\x8f\xbf\xbe",
    b"\xf4\x8f\xbf\xbf",
    b"\xef\xb7\x90",
    b"\xcc\x81",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf\xef\xbb\xbf",
];

const NOT_UTF8: [(&str, &[u8]); 30] = [
    ("a lone continuation, lowest", b"\x80"),
    ("a lone continuation, highest", b"\xbf"),
    ("six lone continuations", b"\x80\xbf\x80\xbf\x80\xbf"),
    ("a lone start of two", b"\xc2 "),
    ("a lone start of three", b"\xe1 "),
    ("a lone start of four", b"\xf1 "),
    ("two of three, then text", b"\xe2\x82 "),
    ("three of four, then text", b"\xf0\x9f\x98 "),
    ("one of two at the end", b"a\xc3"),
    ("one of three at the end", b"a\xe2"),
    ("two of three at the end", b"a\xe2\x82"),
    ("one of four at the end", b"a\xf0"),
    ("two of four at the end", b"a\xf0\x9f"),
    ("three of four at the end", b"a\xf0\x9f\x98"),
    ("overlong slash in two", b"\xc0\xaf"),
    ("overlong slash in three", b"\xe0\x80\xaf"),
    ("overlong slash in four", b"\xf0\x80\x80\xaf"),
    ("overlong NUL", b"\xc0\x80"),
    ("highest overlong of two", b"\xc1\xbf"),
    ("highest overlong of three", b"\xe0\x9f\xbf"),
    ("highest overlong of four", b"\xf0\x8f\xbf\xbf"),
    ("a high surrogate", b"\xed\xa0\x80"),
    ("a low surrogate", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\xbd\xed\xb8\x80"),
    ("beyond the last code point", b"\xf4\x90\x80\x80"),
    ("five octets", b"\xf8\x88\x80\x80\x80"),
    ("six octets", b"\xfc\x84\x80\x80\x80\x80"),
    ("FE", b"\xfe"),
    ("FF", b"\xff"),
    ("Autobahn's own", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"),
];

#[tokio::test]
async fn section_6_text_is_utf_8_however_it_is_cut_and_binary_may_be_anything() {
    let echo = Echo::start();
    for valid in UTF8 {
        let name = format!("{valid:x?}");
        echo.check_good(&name, vec![frame(TEXT, valid)], vec![text(valid)]).await;
        for cut in 1..valid.len() {
            let sent = vec![frame(TEXT & MORE, &valid[..cut]), frame(CONTINUATION, &valid[cut..])];
            echo.check_good(format!("{name} cut at {cut}"), sent, vec![text(valid)]).await;
        }
        let sent = fragmented(TEXT, valid, 1);
        echo.check_good(format!("{name} octet by octet"), sent, vec![text(valid)]).await;
    }
    for (name, invalid) in NOT_UTF8 {
        let surrounded = [b"before ", invalid].concat();
        echo.check_small(name, vec![frame(TEXT, invalid)], fails(1007)).await;
        echo.check(name, vec![frame(TEXT, &surrounded)], fails(1007)).await;
        let sent = fragmented(TEXT, invalid, 1);
        echo.check(format!("{name}, in fragments of one octet"), sent, fails(1007)).await;
        let sent = vec![
            frame(TEXT & MORE, "before "),
            frame(PING, ""),
            frame(CONTINUATION, invalid),
            frame(TEXT, "after"),
        ];
        let expected = vec![pong(""), Said::Close(Some(1007))];
        echo.check(format!("{name}, in the last fragment"), sent, expected).await;
        let sent = vec![frame(BINARY, invalid)];
        echo.check_good(format!("{name}, as binary"), sent, vec![Said::Binary(invalid.into())])
            .await;
    }
    let sent = vec![frame(TEXT, "good"), frame(TEXT, b"\xff"), frame(TEXT, "late")];
    let expected = vec![text("good"), Said::Close(Some(1007))];
    echo.check("what came before is taken, what comes after isn't", sent, expected).await;
}

#[tokio::test]
async fn section_7_goodbyes_are_answered_and_nothing_after_them() {
    let echo = Echo::start();
    let goodbye = || close(1000, "");
    let answered = || vec![Said::Close(Some(1000))];
    echo.check_small("close", vec![goodbye()], answered()).await;
    for (name, after) in [
        ("a second close", goodbye()),
        ("a second close with another code", close(1001, "")),
        ("a ping", frame(PING, "ping")),
        ("text", frame(TEXT, "text")),
        ("what is no frame", b"\xff\xff\xff\xff\xff\xff".to_vec()),
    ] {
        echo.check_small(format!("{name} after close"), vec![goodbye(), after], answered()).await;
    }
    let within = vec![frame(TEXT & MORE, "fragment1"), goodbye(), frame(CONTINUATION, "fragment2")];
    echo.check_small("close within a message in fragments", within, answered()).await;
    let large = vec![b'*'; 256 * 1024];
    let sent = vec![frame(TEXT, &large), goodbye(), frame(PING, "")];
    let expected = vec![text(&large), Said::Close(Some(1000))];
    echo.check("close behind 256 KiB", sent, expected).await;

    echo.check_small("an empty close", vec![frame(CLOSE, "")], vec![Said::Close(None)]).await;
    echo.check_small("a close of one octet", vec![frame(CLOSE, "a")], fails(1002)).await;
    echo.check_small("a close with a reason", vec![close(1000, "Hello, world!")], answered()).await;
    let longest = vec![close(1000, [b'*'; 123])];
    echo.check_small("a close with the longest reason", longest, answered()).await;
    let too_long = vec![close(1000, [b'*'; 124])];
    echo.check_small("a close that is too long", too_long, fails(1002)).await;
    for (name, invalid) in NOT_UTF8 {
        let name = format!("a close with a reason that is not UTF-8: {name}");
        echo.check(name, vec![close(1000, invalid)], fails(1007)).await;
    }

    // 1012 to 1014 were registered after the standard (IANA's registry of close codes).
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        let expected = vec![Said::Close(Some(code))];
        echo.check(format!("close with {code}"), vec![close(code, "")], expected).await;
    }
    let reserved = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
    for code in reserved {
        echo.check(format!("close with {code}"), vec![close(code, "")], fails(1002)).await;
        let sent = vec![close(code, "reason")];
        echo.check(format!("close with {code} and a reason"), sent, fails(1002)).await;
    }
}

#[tokio::test]
async fn section_9_large_messages_come_back_whole_or_in_fragments() {
    const MIB: usize = 1 << 20;
    let echo = Echo::start();
    for length in [256 * 1024, MIB, 4 * MIB] {
        // Text whose characters lie across every cut.
        let payload = ["→".as_bytes().repeat(length / 3), vec![b'.'; length % 3]].concat();
        let sent = vec![frame(TEXT, &payload)];
        echo.check_good(format!("text of {length}"), sent, vec![text(&payload)]).await;
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let expected = || vec![Said::Binary(bytes.clone())];
        echo.check_good(format!("binary of {length}"), vec![frame(BINARY, &bytes)], expected())
            .await;
        // As many fragments as are allowed, and fewer.
        for fragment in [length / 1024, length / 64, length / 4 + 1] {
            let name = format!("text of {length} in fragments of {fragment}");
            let sent = fragmented(TEXT, &payload, fragment);
            echo.check_good(name, sent, vec![text(&payload)]).await;
        }
        let name = format!("binary of {length} in fragments, in chops of 1460 octets");
        let sent = fragmented(BINARY, &bytes, length / 16).concat();
        let chops = sent.chunks(1460).map(<[u8]>::to_vec).collect();
        echo.check_good(name, chops, expected()).await;
    }
}

#[tokio::test]
async fn section_10_messages_that_a_client_fragments_by_itself_come_back() {
    let echo = Echo::start();
    let payload = vec![b'*'; 65536];
    for fragment in [1300, 65535, 100] {
        let sent = fragmented(TEXT, &payload, fragment);
        let name = format!("65536 in fragments of {fragment}");
        echo.check_good(name, sent, vec![text(&payload)]).await;
    }
}
