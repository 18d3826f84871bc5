//! A secret in a configuration: it never prints.

/// A secret text; prints as `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Without the line end that files have.
    pub fn new(text: &str) -> Hidden {
        Hidden(text.trim().to_owned())
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
