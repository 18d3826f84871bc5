//! Paths into a record: `actor.id`, `target[type=User].id`, `resources[].arn`, `a."key.with.dots".b`.
//!
//! A selector picks elements of an array: `[]` all, `[0]` by number, `[type=User|Group]` by a field, `[type!=User]`
//! by what it is not. Keys compare without regard to ASCII case.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    All,
    Number(usize),
    Field { key: String, values: Vec<String>, is: bool },
}

/// Reads a path; an error says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("the path is empty".into());
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (inside, next) = after.split_once(']').ok_or("a `[` is not closed")?;
            steps.push(selector(inside)?);
            rest = next.strip_prefix('.').unwrap_or(next);
            continue;
        }
        let (key, next) = key(rest)?;
        steps.push(Step::Key(key));
        rest = next.strip_prefix('.').unwrap_or(next);
        if rest.is_empty() && next.starts_with('.') {
            return Err("a key is missing after the last `.`".into());
        }
    }
    Ok(steps)
}

fn key(text: &str) -> Result<(String, &str), String> {
    if let Some(after) = text.strip_prefix('"') {
        let (key, next) = after.split_once('"').ok_or("a `\"` is not closed")?;
        return Ok((key.to_owned(), next));
    }
    let end = text.find(['.', '[']).unwrap_or(text.len());
    if end == 0 {
        return Err(format!("a key is missing before `{text}`"));
    }
    Ok((text[..end].to_owned(), &text[end..]))
}

fn selector(inside: &str) -> Result<Step, String> {
    if inside.is_empty() || inside == "*" {
        return Ok(Step::All);
    }
    if let Ok(number) = inside.parse() {
        return Ok(Step::Number(number));
    }
    let (key, values) = inside.split_once('=').ok_or_else(|| format!("`[{inside}]` is no number and has no `=`"))?;
    let (key, is) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
    let values = values.split('|').map(|v| v.trim().to_owned()).collect();
    Ok(Step::Field { key: key.trim().to_owned(), values, is })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let steps = parse("a.\"b.c\"[x=1|2].d[0][].e[y!=z]").expect("the path is right");
        assert_eq!(steps.len(), 8);
        assert_eq!(steps[2], Step::Field { key: "x".into(), values: vec!["1".into(), "2".into()], is: true });
        assert_eq!(steps[5], Step::All);
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["", "a.", ".a", "a[", "a[x]", "\"a"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
