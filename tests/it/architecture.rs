//! Reads the source and holds what DESIGN and `lib.rs` say about its shape.

use std::path::{Path, PathBuf};

/// What each part may use of the others, in the order of the map in `lib.rs`.
const MAY_USE: [(&str, &[&str]); 16] = [
    ("model", &[]),
    ("clock", &["model"]),
    ("faults", &[]),
    ("metrics", &[]),
    ("log", &["metrics"]),
    ("journal", &["model", "clock", "metrics", "faults"]),
    ("topics", &["model", "clock", "metrics", "faults", "journal"]),
    ("queue", &["model", "clock", "journal", "topics"]),
    ("actors", &["model", "clock", "metrics", "faults", "journal", "topics", "queue"]),
    ("patterns", &["model", "clock", "topics", "queue", "actors"]),
    ("edge", &["model", "clock", "metrics", "faults", "topics", "queue", "actors", "patterns"]),
    ("exposed", &["model", "journal", "queue", "edge"]),
    ("config", &["model", "journal", "queue", "actors", "edge"]),
    (
        "broker",
        &[
            "model", "clock", "metrics", "log", "journal", "topics", "queue", "actors", "patterns",
            "edge", "config",
        ],
    ),
    ("cli", &["model", "log", "topics", "broker", "config"]),
    ("main", &["cli"]),
];

/// Crates that stand in some parts only.
const CONFINED: [(&str, &[&str]); 6] = [
    ("actix::", &["actors", "edge", "broker"]),
    ("actix_web::", &["edge", "broker", "cli/mod.rs", "cli/bench/bare.rs", "exposed.rs"]),
    ("actix_web_actors", &["edge/ws"]),
    ("actix_http", &["edge/ws", "edge/connections"]),
    ("fjall::", &["journal"]),
    ("std::env", &["cli"]),
];

/// Longest file, in lines before its tests.
const LINES_MAX: usize = 360;

/// Longest function, in lines from its first to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Longest line of a comment, in characters; a table's row may be longer. Code is rustfmt's.
const COLUMNS_MAX: usize = 100;

struct Source {
    /// Below `src`, with slashes.
    path: String,
    /// Without the unit tests at the end.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Source { path, code: code.to_owned() });
            }
        }
    }
    assert!(found.len() > 40, "the source is there");
    found
}

impl Source {
    fn part(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    /// Lines that are not comments.
    fn statements(&self) -> impl Iterator<Item = &str> {
        self.code.lines().filter(|line| !line.trim_start().starts_with("//"))
    }

    /// Functions and how many lines each has, as rustfmt sets them: the end is a brace below the beginning.
    fn functions(&self) -> Vec<(&str, usize)> {
        let lines: Vec<_> = self.code.lines().collect();
        let mut functions = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let begins = line.trim_start();
            let indent = &line[..line.len() - begins.len()];
            let words = ["pub(super) ", "pub(crate) ", "pub ", "const ", "async "];
            let mut rest = begins.trim_start_matches("pub(in crate::edge::http) ");
            for word in words {
                rest = rest.strip_prefix(word).unwrap_or(rest);
            }
            let Some(name) = rest.strip_prefix("fn ") else { continue };
            let name = name.split(['(', '<']).next().unwrap_or_default();
            let end = format!("{indent}}}");
            let body = lines[at..].iter().position(|line| **line == end);
            // A function of a trait may have no body.
            let declared = lines[at..].iter().position(|line| line.ends_with(';'));
            let brace = lines[at..].iter().position(|line| line.ends_with('{'));
            if declared < brace && declared.is_some() {
                continue;
            }
            functions.push((name, body.map_or(1, |body| body + 1)));
        }
        functions
    }

    /// The parts that it names as `crate::part`.
    fn used(&self) -> Vec<&str> {
        let mut used = Vec::new();
        for statement in self.statements() {
            for rest in statement.split("crate::").skip(1) {
                used.push(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap());
            }
        }
        used
    }
}

fn violations(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        let path = &source.path;
        let mut complain = |what: String| violations.push(format!("src/{path}: {what}"));
        if !source.code.starts_with("//!") {
            complain("does not begin with what it is for (//!)".into());
        }
        if source.code.lines().count() > LINES_MAX {
            complain(format!("is longer than {LINES_MAX} lines: two rooms would be clearer"));
        }
        for (n, line) in source.code.lines().enumerate() {
            let words = line.trim_start();
            let is_text = words.starts_with("//") && !words.contains(" | ");
            if is_text && line.chars().count() > COLUMNS_MAX {
                complain(format!("line {} is longer than {COLUMNS_MAX} columns", n + 1));
            }
        }
        for (name, lines) in source.functions() {
            if lines > FUNCTION_LINES_MAX {
                complain(format!("`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}"));
            }
        }
        for vague in ["utils", "helpers", "common", "misc"] {
            if path.split(['/', '.']).any(|name| name == vague) {
                complain(format!("`{vague}` says nothing"));
            }
        }
        if source.statements().any(|statement| statement.contains("super::super::")) {
            complain("reaches over its parent's head: name the part it uses".into());
        }
        for (name, parts) in CONFINED {
            let inside = parts.iter().any(|part| path.starts_with(part));
            if !inside && source.statements().any(|statement| statement.contains(name)) {
                complain(format!("`{name}` belongs to {parts:?}"));
            }
        }
        if path == "lib.rs" {
            continue;
        }
        let Some((part, allowed)) = MAY_USE.iter().find(|(part, _)| *part == source.part()) else {
            complain("is no part of the map".into());
            continue;
        };
        for used in source.used() {
            if used != *part && !allowed.contains(&used) {
                complain(format!("`{part}` may not use `{used}`"));
            }
        }
    }
    violations
}

#[test]
fn the_source_has_the_shape_that_the_map_says() {
    assert_eq!(violations(&sources()), [""; 0]);
}

#[test]
fn a_source_of_another_shape_is_noticed() {
    for (path, code, complaint) in [
        ("model/x.rs", "//! x\nuse crate::journal::Journal;", "`model` may not use `journal`"),
        ("journal/x.rs", "//! x\nuse actix::Actor;", "`actix::` belongs to"),
        ("actors/x.rs", "//! x\nfjall::open();", "`fjall::` belongs to"),
        ("edge/http/x.rs", "//! x\nuse actix_web_actors::ws;", "`actix_web_actors` belongs to"),
        ("edge/x.rs", "use std::fmt;", "does not begin with"),
        ("edge/http/x.rs", "//! x\nuse super::super::super::cli;", "over its parent's head"),
        ("edge/utils.rs", "//! x", "`utils` says nothing"),
        ("shelf/x.rs", "//! x", "is no part of the map"),
        ("edge/y.rs", &format!("//! x{}", "\n".repeat(LINES_MAX + 1)), "is longer than"),
        ("edge/v.rs", &format!("//! x{}", "x".repeat(COLUMNS_MAX)), "line 1 is longer than 100"),
        (
            "edge/z.rs",
            &format!(
                "//! x\nimpl X {{\n    pub async fn long(\n        a: u8,\n    ) {{{}    }}\n}}\n",
                "\n".repeat(70)
            ),
            "`long` has 73 lines",
        ),
    ] {
        let found = violations(&[Source { path: path.into(), code: code.into() }]);
        assert!(found.iter().any(|found| found.contains(complaint)), "{path}: {found:?}");
    }
}
