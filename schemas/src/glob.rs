//! Patterns for names of actions: `*` is any text, everything else stands for itself. Backtracks to the last `*` only.

/// Whether `text` fits `glob`, in which `*` is any text. ASCII case does not count.
pub fn like(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t, mut star, mut mark) = (0, 0, usize::MAX, 0);
    while t < text.len() {
        if g < glob.len() && glob[g] == b'*' {
            (star, mark) = (g, t);
            g += 1;
        } else if g < glob.len() && glob[g].eq_ignore_ascii_case(&text[t]) {
            g += 1;
            t += 1;
        } else if star != usize::MAX {
            mark += 1;
            (g, t) = (star + 1, mark);
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_case_does_not_count() {
        for (glob, text) in [
            ("*:Get*", "s3:GetObject"),
            ("*", ""),
            ("a*b*c", "aXbYc"),
            ("get *", "GET /x"),
            ("refund.*", "Refund.created"),
        ] {
            assert!(like(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("a*b", "ac"), ("a", "ab"), ("", "a"), ("refund.*", "x.refund.created")] {
            assert!(!like(glob, text), "{glob} {text}");
        }
    }
}
