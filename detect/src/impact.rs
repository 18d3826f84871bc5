//! Impact: how bad an action can be, from the catalogue, else from its effect and its words. Surprise is weighed by it.
//!
//! | effect | impact | |
//! | --- | --- | --- |
//! | export, admin, delegate | 1.0 | data leaves, rights change, someone else may act |
//! | delete | 0.8 | |
//! | write, execute, auth, unknown | 0.5 | `auth` is every token grant and login: routine |
//! | read | 0.2 | |
//!
//! An action that [`schemas::catalogue`] knows counts by its entry instead. A sensitive word in the resource, or in an
//! action that is not in the catalogue, makes any effect but `auth` 1.0. A call that did not succeed counts 0.3 of it: it
//! did no harm, but somebody tried.

use schemas::catalogue::Known;

const SENSITIVE: &[&str] = &[
    "apikey",
    "backup",
    "credential",
    "credentials",
    "download",
    "dump",
    "export",
    "exports",
    "key",
    "keys",
    "password",
    "passwords",
    "payroll",
    "salaries",
    "salary",
    "secret",
    "secrets",
    "ssn",
    "token",
    "tokens",
    "vault",
];

/// Lengths of the words above, a bit each, by their first letter: most words are none of them at a look.
const LISTED_BYTES: [u16; 26] = {
    let (mut lengths, mut at) = ([0; 26], 0);
    while at < SENSITIVE.len() {
        let word = SENSITIVE[at].as_bytes();
        lengths[(word[0] - b'a') as usize] |= 1 << word.len();
        at += 1;
    }
    lengths
};

/// The least impact of what can do harm: a plain read cannot, and how odd it is says nothing of a hijack.
pub(crate) const HARM: f64 = 0.3;
/// The least impact of what the explanations and severities call grave.
pub(crate) const GRAVE: f64 = 0.8;

pub(crate) fn of(known: Option<Known>, effect: &str, sensitive: bool) -> f64 {
    match (known, effect) {
        (Some(known), _) if !sensitive || effect == "auth" => known.impact.weight(),
        (None, "auth") => 0.5,
        _ if sensitive => 1.0,
        (_, other) => of_effect(other),
    }
}

fn of_effect(effect: &str) -> f64 {
    match effect {
        "export" | "admin" | "delegate" => 1.0,
        "delete" => 0.8,
        "read" => 0.2,
        _ => 0.5,
    }
}

pub(crate) fn of_outcome(outcome: &str) -> f64 {
    match outcome {
        "success" | "unknown" => 1.0,
        _ => 0.3,
    }
}

/// Whether a word of `name` is in the list. Words end at other signs and where lower case turns to upper.
pub(crate) fn is_sensitive(name: &str) -> bool {
    let (mut from, mut lower) = (0, false);
    for (at, sign) in name.char_indices() {
        if !sign.is_alphanumeric() {
            if is_listed(&name[from..at]) {
                return true;
            }
            from = at + sign.len_utf8();
        } else if lower && sign.is_uppercase() {
            if is_listed(&name[from..at]) {
                return true;
            }
            from = at;
        }
        lower = sign.is_lowercase();
    }
    is_listed(&name[from..])
}

fn is_listed(word: &str) -> bool {
    let letter = word.bytes().next().map_or(u8::MAX, |first| first.to_ascii_lowercase().wrapping_sub(b'a'));
    let lengths = LISTED_BYTES.get(usize::from(letter)).copied().unwrap_or(0);
    let may_be = word.len() < u16::BITS as usize && lengths >> word.len() & 1 == 1;
    may_be && SENSITIVE.iter().any(|listed| listed.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_not_letters_are_sensitive() {
        for name in
            ["secretsmanager:GetSecretValue", "GET /payroll/{id}", "system.api_token.create", "customers.export"]
        {
            assert!(is_sensitive(name), "{name}");
        }
        for name in ["monkeys.list", "tokenizer.run", "GET /invoices/{id}", "exporter"] {
            assert!(!is_sensitive(name), "{name}");
        }
    }

    #[test]
    fn the_list_is_sorted_and_a_token_grant_is_routine() {
        assert!(SENSITIVE.is_sorted() && SENSITIVE.iter().all(|word| is_listed(word)));
        assert_eq!((of(None, "auth", true), of(None, "read", true), of(None, "read", false)), (0.5, 1.0, 0.2));
    }

    #[test]
    fn the_catalogue_says_more_than_the_effect_and_less_than_a_secret() {
        let known = Known { impact: schemas::catalogue::Impact::Routine, needs_approval: false };
        assert_eq!((of(Some(known), "admin", false), of(Some(known), "read", true)), (0.1, 1.0));
    }
}
