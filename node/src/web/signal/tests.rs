use serde_json::json;

use super::*;

const UUID: &str = "0b2e36a1-4f57-4c1d-9e8a-3d5f6a7b8c9d";

fn offer() -> Value {
    json!({
        "form": "offer",
        "ufrag": "aB3+",
        "password": "0123456789abcdefghij/+",
        "certificate_sha256": "5a".repeat(32),
        "candidates": [
            { "kind": "host", "host": format!("{UUID}.local"), "port": 40_000, "priority": 2_113_937_151u32 },
            { "kind": "srflx", "host": "203.0.113.9", "port": 1, "priority": 1 },
            { "kind": "relay", "host": "2001:db8::9", "port": 65_535, "priority": 7 },
        ],
    })
}

#[test]
fn what_the_page_says_comes_back_as_it_was() {
    let signal = from_page(&offer().to_string()).expect("an offer");
    assert!(matches!(&signal, Signal::Offer(offer) if offer.candidates.len() == 3));
    assert_eq!(to_page(&signal), Some(offer()));
    let one =
        json!({ "form": "candidate", "kind": "prflx", "host": "::1", "port": 9, "priority": 8 });
    let signal = from_page(&one.to_string()).expect("a candidate");
    assert_eq!(to_page(&signal), Some(one));
}

#[test]
fn what_does_not_fit_is_no_signal() {
    let with = |field: &str, value: Value| {
        let mut said = offer();
        said[field] = value;
        from_page(&said.to_string())
    };
    assert_eq!(with("form", "dial".into()), None);
    assert_eq!(with("ufrag", "a b".into()), None);
    assert_eq!(with("ufrag", "a\r\na=x".into()), None);
    assert_eq!(with("password", "x".repeat(65).into()), None);
    assert_eq!(with("certificate_sha256", "5a".repeat(31).into()), None);
    assert_eq!(with("certificate_sha256", "+a".repeat(32).into()), None);
    assert_eq!(with("candidates", Value::Null), None);
    assert_eq!(from_page("[]"), None);
}

#[test]
fn a_candidate_that_does_not_fit_leaves_the_others() {
    for (field, value) in [
        ("host", json!("router.example")),
        ("host", json!("0b2e36a14f574c1d9e8a3d5f6a7b8c9d.local")),
        ("host", json!("0b2e36a1-4f57-4c1d-9e8a-3d5f6a7b8c.local")),
        ("host", json!("10.0.0.256")),
        ("kind", json!("tcp")),
    ] {
        let mut said = offer();
        said["candidates"][0][field] = value.clone();
        let signal = from_page(&said.to_string());
        assert!(
            matches!(&signal, Some(Signal::Offer(offer)) if offer.candidates.len() == 2),
            "{field} {value}"
        );
    }
}
