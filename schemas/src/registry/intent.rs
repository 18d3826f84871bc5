//! What an agent is meant to do: patterns of actions, each perhaps on certain resources. `*` stands for any text, none too.
//!
//! Intent is said beforehand by who answers for the agent, never by a record: a record that could name its own intent
//! would excuse itself.

/// One pattern of intended work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    action: String,
    resource: Option<String>,
}

impl Intent {
    /// Reads `ACTION` or `ACTION on RESOURCE`, cut at the last ` on `.
    pub fn parse(text: &str) -> Result<Intent, &'static str> {
        let (action, resource) = match text.rsplit_once(" on ") {
            Some((action, resource)) => (action.trim(), Some(resource.trim().to_owned())),
            None => (text.trim(), None),
        };
        if action.is_empty() || resource.as_ref().is_some_and(String::is_empty) {
            return Err("expected `ACTION` or `ACTION on RESOURCE`");
        }
        Ok(Intent { action: action.to_owned(), resource })
    }

    /// Whether the call is meant. Where a record lists several resources with commas, every one must be.
    pub fn covers(&self, action: &str, resources: &str) -> bool {
        let meant = |pattern: &str| resources.split(',').all(|one| !one.is_empty() && fits(pattern, one.trim()));
        fits(&self.action, action)
            && self.resource.as_deref().is_none_or(|pattern| fits_whole(pattern, resources) || meant(pattern))
    }
}

/// A pattern without a `*` may name a list as it is written.
fn fits_whole(pattern: &str, text: &str) -> bool {
    !pattern.contains('*') && pattern == text
}

/// The parts between the stars are looked for in turn, each as far left as it goes: linear in the text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut text) = text.strip_prefix(first) else { return false };
    for part in middle.split('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}
