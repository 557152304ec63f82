//! The pattern language, row by row.

use serde_json::{Value, json};

use super::*;

fn matches(pattern: &Value, event: &Value) -> bool {
    Pattern::parse(&pattern.to_string()).unwrap_or_else(|e| panic!("{pattern}: {e}")).matches(event)
}

/// Events on the left match, those on the right do not.
#[track_caller]
fn table(pattern: Value, good: &[Value], bad: &[Value]) {
    for event in good {
        assert!(matches(&pattern, event), "{pattern} should match {event}");
    }
    for event in bad {
        assert!(!matches(&pattern, event), "{pattern} should not match {event}");
    }
}

#[test]
fn literals_are_equal_in_kind_and_value() {
    table(
        json!({"a": ["x"]}),
        &[json!({"a": "x"}), json!({"a": "x", "b": 1})],
        &[json!({"a": "X"}), json!({"a": "xx"}), json!({"b": "x"}), json!({}), json!("x")],
    );
    table(
        json!({"a": [5]}),
        &[json!({"a": 5}), json!({"a": 5.0})],
        &[json!({"a": "5"}), json!({"a": 6}), json!({"a": true})],
    );
    table(
        json!({"a": [9_007_199_254_740_993_u64]}),
        &[json!({"a": 9_007_199_254_740_993_u64})],
        &[json!({"a": 9_007_199_254_740_992_u64})],
    );
    table(json!({"a": [null]}), &[json!({"a": null})], &[json!({}), json!({"a": "null"})]);
    table(json!({"a": [""]}), &[json!({"a": ""})], &[json!({"a": " "}), json!({"a": null})]);
    table(json!({"a": [true]}), &[json!({"a": true})], &[json!({"a": "true"})]);
    table(json!({"a": ["x", 1]}), &[json!({"a": "x"}), json!({"a": 1})], &[json!({"a": 2})]);
}

#[test]
fn texts_match_by_their_ends() {
    table(
        json!({"a": [{"prefix": "us-"}]}),
        &[json!({"a": "us-east"}), json!({"a": "us-"})],
        &[json!({"a": "eu-us-"}), json!({"a": "US-east"}), json!({"a": 1})],
    );
    table(
        json!({"a": [{"suffix": ".png"}]}),
        &[json!({"a": "x.png"})],
        &[json!({"a": "x.PNG"}), json!({"a": "png"})],
    );
    table(
        json!({"a": [{"prefix": {"equals-ignore-case": "Us-"}}]}),
        &[json!({"a": "uS-east"})],
        &[json!({"a": "eu"})],
    );
    table(
        json!({"a": [{"suffix": {"equals-ignore-case": ".PnG"}}]}),
        &[json!({"a": "x.png"})],
        &[json!({"a": "x.jpg"})],
    );
    table(
        json!({"a": [{"equals-ignore-case": "Ärger"}]}),
        &[json!({"a": "äRGER"})],
        &[json!({"a": "arger"})],
    );
}

#[test]
fn a_star_stands_for_any_text() {
    table(
        json!({"a": [{"wildcard": "dir/*.txt"}]}),
        &[json!({"a": "dir/x.txt"}), json!({"a": "dir/.txt"}), json!({"a": "dir/a.txt.txt"})],
        &[json!({"a": "dir/x.txt2"}), json!({"a": "x/dir/.txt"})],
    );
    table(
        json!({"a": [{"wildcard": "*a*b*"}]}),
        &[json!({"a": "ab"}), json!({"a": "xaxbx"})],
        &[json!({"a": "ba"}), json!({"a": ""})],
    );
    table(json!({"a": [{"wildcard": "*"}]}), &[json!({"a": ""})], &[json!({"a": 1})]);
    table(json!({"a": [{"wildcard": "a*a"}]}), &[json!({"a": "aa"})], &[json!({"a": "a"})]);
    table(
        json!({"a": [{"wildcard": r"a\*\\b"}]}),
        &[json!({"a": r"a*\b"})],
        &[json!({"a": r"axx\b"})],
    );
}

#[test]
fn numbers_lie_in_ranges() {
    table(
        json!({"a": [{"numeric": [">", 0, "<=", 100]}]}),
        &[json!({"a": 0.1}), json!({"a": 100})],
        &[json!({"a": 0}), json!({"a": 100.01}), json!({"a": "50"})],
    );
    table(json!({"a": [{"numeric": ["=", 5]}]}), &[json!({"a": 5.0})], &[json!({"a": 5.1})]);
    table(
        json!({"a": [{"numeric": [">=", -1.5]}]}),
        &[json!({"a": -1.5})],
        &[json!({"a": -2}), json!({"a": null})],
    );
    table(json!({"a": [{"numeric": ["<", 1]}]}), &[json!({"a": -7})], &[json!({"a": 1})]);
}

#[test]
fn anything_but_is_something_else() {
    table(
        json!({"a": [{"anything-but": ["x", "y"]}]}),
        &[json!({"a": "z"}), json!({"a": 1}), json!({"a": null}), json!({"a": ["x", "z"]})],
        &[json!({"a": "x"}), json!({}), json!({"a": {"b": 1}}), json!({"a": ["x", "y"]})],
    );
    table(json!({"a": [{"anything-but": 5}]}), &[json!({"a": 6})], &[json!({"a": 5.0})]);
    table(json!({"a": [{"anything-but": [1, 2]}]}), &[json!({"a": 3})], &[json!({"a": 2})]);
    for (operator, bad) in [
        ("prefix", "init-x"),
        ("suffix", "x-init-"),
        ("equals-ignore-case", "INIT-"),
        ("wildcard", "init-"),
    ] {
        let pattern = json!({"a": [{"anything-but": {operator: "init-"}}]});
        table(pattern, &[json!({"a": "other"})], &[json!({"a": bad}), json!({"a": 1})]);
    }
    table(
        json!({"a": [{"anything-but": {"prefix": ["a", "b"]}}]}),
        &[json!({"a": "c"})],
        &[json!({"a": "ax"}), json!({"a": "bx"})],
    );
}

#[test]
fn existence_is_of_leaves() {
    table(
        json!({"a": [{"exists": true}]}),
        &[json!({"a": null}), json!({"a": ""}), json!({"a": [1]})],
        &[json!({}), json!({"a": {"b": 1}}), json!({"a": []})],
    );
    table(
        json!({"a": {"b": [{"exists": false}]}}),
        &[json!({}), json!({"a": {}}), json!({"a": 1}), json!({"a": {"c": 1}})],
        &[json!({"a": {"b": 1}}), json!({"a": [{}, {"b": null}]})],
    );
    table(
        json!({"a": [{"exists": false}, "x"]}),
        &[json!({}), json!({"a": "x"})],
        &[json!({"a": "y"})],
    );
}

#[test]
fn members_are_anded_and_alternatives_ored() {
    table(
        json!({"a": ["x"], "b": {"c": [1], "d": [2]}}),
        &[json!({"a": "x", "b": {"c": 1, "d": 2}})],
        &[json!({"a": "x", "b": {"c": 1}}), json!({"b": {"c": 1, "d": 2}})],
    );
    table(
        json!({"n": [1], "$or": [{"a": ["x"]}, {"b": ["y"], "c": ["z"]}]}),
        &[json!({"n": 1, "a": "x"}), json!({"n": 1, "b": "y", "c": "z"})],
        &[json!({"n": 1, "b": "y"}), json!({"a": "x"}), json!({"n": 1})],
    );
    table(
        json!({"d": {"$or": [{"a": ["x"]}, {"$or": [{"b": [1]}, {"b": [2]}]}]}}),
        &[json!({"d": {"a": "x"}}), json!({"d": {"b": 2}})],
        &[json!({"d": {"b": 3}}), json!({"a": "x"})],
    );
}

#[test]
fn arrays_of_the_event_match_by_one_element() {
    table(
        json!({"a": ["x", "y"]}),
        &[json!({"a": ["z", "y"]}), json!({"a": [["x"]]})],
        &[json!({"a": ["z"]}), json!({"a": []})],
    );
    table(
        json!({"a": {"b": [1], "c": [2]}}),
        &[json!({"a": [{"b": 0}, {"b": 1, "c": 2}]})],
        &[json!({"a": [{"b": 1}, {"c": 2}]}), json!({"a": []})],
    );
}

#[test]
fn a_pattern_of_no_known_form_is_refused() {
    for pattern in [
        "",
        "[]",
        "x",
        "\"x\"",
        "1",
        "{}",
        "{\"a\"",
        "{\"a\": \"x\"}",
        "{\"a\": 1}",
        "{\"a\": null}",
        "{\"a\": []}",
        "{\"a\": {}}",
        "{\"a\": [[1]]}",
        "{\"a\": [{}]}",
        r#"{"a": [{"prefix": 1}]}"#,
        r#"{"a": [{"prefix": ["x"]}]}"#,
        r#"{"a": [{"prefix": "x", "suffix": "y"}]}"#,
        r#"{"a": [{"suffix": {"prefix": "x"}}]}"#,
        r#"{"a": [{"nonsense": "x"}]}"#,
        r#"{"a": [{"cidr": "10.0.0.0/8"}]}"#,
        r#"{"a": [{"exists": "true"}]}"#,
        r#"{"a": [{"wildcard": "a**b"}]}"#,
        r#"{"a": [{"wildcard": "a\\b"}]}"#,
        r#"{"a": [{"wildcard": "a\\"}]}"#,
        r#"{"a": [{"numeric": 1}]}"#,
        r#"{"a": [{"numeric": []}]}"#,
        r#"{"a": [{"numeric": [">"]}]}"#,
        r#"{"a": [{"numeric": [">", "1"]}]}"#,
        r#"{"a": [{"numeric": ["==", 1]}]}"#,
        r#"{"a": [{"numeric": ["<", 9, ">", 1]}]}"#,
        r#"{"a": [{"numeric": [">", 9, "<", 1]}]}"#,
        r#"{"a": [{"numeric": [">", 1, ">", 2]}]}"#,
        r#"{"a": [{"numeric": ["=", 1, "<", 2]}]}"#,
        r#"{"a": [{"numeric": [">", 6e9]}]}"#,
        r#"{"a": [{"anything-but": []}]}"#,
        r#"{"a": [{"anything-but": ["x", 1]}]}"#,
        r#"{"a": [{"anything-but": null}]}"#,
        r#"{"a": [{"anything-but": [true]}]}"#,
        r#"{"a": [{"anything-but": {"prefix": 1}}]}"#,
        r#"{"a": [{"anything-but": {"prefix": []}}]}"#,
        r#"{"a": [{"anything-but": {"numeric": [">", 1]}}]}"#,
        r#"{"$or": []}"#,
        r#"{"$or": [{"a": [1]}]}"#,
        r#"{"$or": [{"a": [1]}, {}]}"#,
        r#"{"$or": {"a": [1]}}"#,
        r#"{"$or": ["x", "y"]}"#,
    ] {
        assert!(Pattern::parse(pattern).is_err(), "{pattern}");
    }
    let deep = "{\"a\":".repeat(800) + "[1]" + &"}".repeat(800);
    assert!(Pattern::parse(&deep).is_err(), "depth costs no stack");
}

#[test]
fn json_and_plain_content_never_match_each_others_patterns() {
    let event = |body: &str| json!({"body": content(body), "id": "1"});
    let rows = [
        (json!({"body": {"k": ["v"]}}), r#"{"k": "v"}"#, true),
        (json!({"body": {"k": ["v"]}}), "v", false),
        (json!({"body": ["plain"]}), "plain", true),
        (json!({"body": ["plain"]}), r#"{"k": "plain"}"#, false),
        (json!({"body": ["5"]}), "5", true),
        (json!({"id": ["1"]}), "anything", true),
    ];
    for (pattern, body, expected) in rows {
        assert_eq!(matches(&pattern, &event(body)), expected, "{pattern} {body}");
    }
}
