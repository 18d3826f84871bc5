//! Patterns of intended work: what they cover, and nothing beside it.

use schemas::registry::Intent;

fn intent(text: &str) -> Intent {
    Intent::parse(text).expect("is a pattern")
}

#[test]
fn stars_stand_for_any_text() {
    for (pattern, text) in
        [("*", ""), ("a", "a"), ("a*", "a"), ("*a", "ba"), ("a*b*c", "aXbbYc"), ("a*a", "aa"), ("**", "x")]
    {
        assert!(intent(pattern).covers(text, ""), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "ab"), ("a", "A"), ("a*", "ba"), ("a*a", "a"), ("a*b*b", "ab"), ("*b", "bc")] {
        assert!(!intent(pattern).covers(text, ""), "{pattern} {text}");
    }
}

#[test]
fn an_intent_covers_what_it_says_and_no_more() {
    assert!(intent("GET /invoices/*").covers("GET /invoices/7", "anything"));
    assert!(!intent("GET /invoices/*").covers("DELETE /invoices/7", ""));
    let mail = intent("send_email on *@acme.example");
    assert!(
        mail.covers("send_email", "ann@acme.example")
            && mail.covers("send_email", "ann@acme.example, bob@acme.example")
    );
    assert!(!mail.covers("send_email", "eve@evil.example,ann@acme.example"), "every one must be meant");
    assert!(!mail.covers("send_email", ""), "where a resource is meant, one must be there");
    assert!(intent("turn on * on lamp").covers("turn on light", "lamp"));
    assert!(intent("x on a,b").covers("x", "a,b"));
    assert!(["", " on x", "x on "].iter().all(|text| Intent::parse(text).is_err()));
}
